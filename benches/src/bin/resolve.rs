//! `void-resolve`: finding and verifying a module in the cache folder, beside plain sha256 of the same bytes, in one run.
//!
//! Started by `cargo xtask bench resolve`. Nothing is remembered between two resolves; the files are in the page cache, as
//! the bytes that are hashed plainly are in memory. The two take turns, so that what disturbs one disturbs the other, and
//! the plain side has threads that stand ready: it pays for no start of a thread.
//!
//! A resolve reads into memory that the one before gave back, up to what the supply keeps of that, as in a service whose
//! memory for modules is full. The very first one, and most of 200 MB at once, get pages that nothing has touched yet.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::io::{Error, Result};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use void_api::{CidText, Target};
use void_module::{Supply, SupplyConfig};

#[path = "../processors.rs"]
mod processors;

const SIZES: [usize; 5] = [10_000, 100_000, 1_000_000, 20_000_000, 50_000_000];
/// Modules at once, where they fit.
const AT_ONCE: usize = 16;
/// Bytes of all that are asked for at once.
const BYTES_AT_ONCE: usize = 200_000_000;
/// How long a size is measured each way, and how often at least.
const TURN: Duration = Duration::from_secs(3);
const ROUNDS: usize = 10;

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
    println!("Resolving and verifying beside sha256 of the same bytes, in turns; {processors} processors.");
    println!("best: the best time of each, µs, and their ratio. usual: the median of the ratios of two");
    println!(
        "neighbours. CPU: time of all threads, of all rounds. others: of one processor, by anything else."
    );
    println!("     bytes    n   best sha256    resolve   ratio   usual     CPU   others");
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

        let one = Pair::measure(|| hash(&modules[0]), || resolve(&runtime, &supply, &targets[..1], size))?;
        one.print(size, 1);
        let many = with_hashers(processors, &modules, |hash_all| {
            Pair::measure(hash_all, || resolve(&runtime, &supply, &targets, size))
        })?;
        many.print(size, count);
    }
    Ok(())
}

/// Two ways to do the same, each with its best time and its CPU time.
struct Pair {
    best: [Duration; 2],
    cpu: [Duration; 2],
    ratios: Vec<f64>,
    first: Duration,
    others: f64,
}

impl Pair {
    fn measure(plain: impl Fn(), resolve: impl Fn() -> Result<()>) -> Result<Self> {
        let mut pair = Self {
            best: [Duration::MAX; 2],
            cpu: [Duration::ZERO; 2],
            ratios: vec![],
            first: Duration::ZERO,
            others: 0.0,
        };
        let (begun, busy, own) = (Instant::now(), processors::busy(), cpu_time()?);
        while begun.elapsed() < TURN || pair.ratios.len() < ROUNDS {
            let first = pair.timed(0, || {
                plain();
                Ok(())
            })?;
            let second = pair.timed(1, &resolve)?;
            if pair.ratios.is_empty() {
                pair.first = second;
            }
            pair.ratios.push(second.as_secs_f64() / first.as_secs_f64());
        }
        pair.ratios.sort_by(f64::total_cmp);
        let others = (processors::busy() - busy).saturating_sub(cpu_time()? - own);
        pair.others = others.as_secs_f64() / begun.elapsed().as_secs_f64();
        Ok(pair)
    }

    fn timed(&mut self, side: usize, work: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let (begun, cpu) = (Instant::now(), cpu_time()?);
        work()?;
        let took = begun.elapsed();
        self.cpu[side] += cpu_time()? - cpu;
        self.best[side] = self.best[side].min(took);
        Ok(took)
    }

    fn print(&self, size: usize, count: usize) {
        let [plain, resolve] = self.best.map(|time| time.as_secs_f64() * 1e6);
        let [plain_cpu, resolve_cpu] = self.cpu.map(|time| time.as_secs_f64());
        println!(
            "{size:>10} {count:>4} {plain:>13.1} {resolve:>10.1} {:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>7.0}%",
            resolve / plain,
            self.ratios[self.ratios.len() / 2],
            self.first.as_secs_f64() * 1e6 / plain,
            resolve_cpu / plain_cpu,
            self.others * 100.0
        );
    }
}

/// CPU time of all threads of this process.
fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
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

fn hash(module: &[u8]) {
    black_box(Sha256::digest(black_box(module)));
}

/// Hands `work` a function that hashes all modules once, on all processors: this thread and others that stand ready, each
/// taking the next module when it is done with one.
fn with_hashers<T>(processors: usize, modules: &[Vec<u8>], work: impl FnOnce(&dyn Fn()) -> T) -> T {
    let (next, over) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (begin, end) = (Barrier::new(processors), Barrier::new(processors));
    let hash_next = || {
        while let Some(module) = modules.get(next.fetch_add(1, Ordering::Relaxed)) {
            hash(module);
        }
    };
    thread::scope(|scope| {
        for _ in 1..processors {
            scope.spawn(|| {
                loop {
                    begin.wait();
                    if over.load(Ordering::Relaxed) != 0 {
                        return;
                    }
                    hash_next();
                    end.wait();
                }
            });
        }
        let result = work(&|| {
            next.store(0, Ordering::Relaxed);
            begin.wait();
            hash_next();
            end.wait();
        });
        over.store(1, Ordering::Relaxed);
        begin.wait();
        result
    })
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
