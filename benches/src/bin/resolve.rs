//! `void-resolve`: finding and verifying a module in the cache folder, beside plain sha256 of the same bytes, in one run.
//!
//! Started by `cargo xtask bench resolve`. Nothing is remembered between two resolves; the files are in the page cache, as
//! the bytes that are hashed plainly are in memory.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::io::{Error, Result};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use void_api::{CidText, Target};
use void_module::{Supply, SupplyConfig};

const SIZES: [usize; 5] = [10_000, 100_000, 1_000_000, 20_000_000, 50_000_000];
/// Modules at once, where they fit.
const AT_ONCE: usize = 16;
/// Bytes of all that are asked for at once.
const BYTES_AT_ONCE: usize = 200_000_000;
/// How long each column of a size is measured.
const TURN: Duration = Duration::from_millis(900);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("void-resolve: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let processors = thread::available_parallelism()?.get();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    println!(
        "Resolving and verifying beside sha256 of the same bytes, best of many, µs; {processors} processors"
    );
    println!("               one at a time                       many at once, sha256 on all processors");
    println!("     bytes     sha256    resolve   ratio            n     sha256    resolve   ratio");
    for size in SIZES {
        let top = tempfile::tempdir()?;
        let count = AT_ONCE.min(BYTES_AT_ONCE / size).max(1);
        let modules: Vec<Vec<u8>> = (0..count).map(|number| content(size, number)).collect();
        let targets =
            modules.iter().map(|module| lay(top.path(), module)).collect::<Result<Vec<Target>>>()?;
        let mut config = SupplyConfig::new(top.path().join("state"));
        config.cache_dir = Some(top.path().join("cache"));
        config.hot_max_bytes = 0;
        let supply = Supply::new(config).map_err(Error::other)?;

        let plain = best(|| {
            black_box(Sha256::digest(black_box(&modules[0])));
            Ok(())
        })?;
        let one = best(|| resolve(&runtime, &supply, &targets[..1], size))?;
        let plain_many = best(|| hash_on_all(&modules, processors))?;
        let many = best(|| resolve(&runtime, &supply, &targets, size))?;
        println!(
            "{size:>10} {plain:>10.1} {one:>10.1} {:>7.2} {count:>12} {plain_many:>10.1} {many:>10.1} {:>7.2}",
            one / plain,
            many / plain_many
        );
    }
    Ok(())
}

/// The best time of a turn, in µs: what the machine does when it does nothing else.
fn best(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    let mut best = Duration::MAX;
    while begun.elapsed() < TURN {
        let begun = Instant::now();
        work()?;
        best = best.min(begun.elapsed());
    }
    Ok(best.as_secs_f64() * 1e6)
}

fn resolve(runtime: &Runtime, supply: &Supply, targets: &[Target], size: usize) -> Result<()> {
    let all = runtime.block_on(join_all(targets.iter().map(|target| supply.resolve("bench", target))));
    for module in all {
        if module.map_err(Error::other)?.bytes.len() != size {
            return Err(Error::other("a module has another size than was laid there"));
        }
    }
    Ok(())
}

fn hash_on_all(modules: &[Vec<u8>], processors: usize) -> Result<()> {
    thread::scope(|scope| {
        for share in modules.chunks(modules.len().div_ceil(processors)) {
            scope.spawn(move || {
                share.iter().for_each(|module| {
                    black_box(Sha256::digest(black_box(module)));
                })
            });
        }
    });
    Ok(())
}

/// Bytes of which no two modules have the same.
fn content(size: usize, number: usize) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Puts a module where the cache has it. Its name.
fn lay(top: &Path, module: &[u8]) -> Result<Target> {
    let cid = CidText::raw(Sha256::digest(module).into());
    let text = cid.to_string();
    let folder = top.join("cache").join(&text[..2]).join(&text[2..4]);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(format!("{text}.wasm")), module)?;
    Ok(Target::Cid(cid))
}
