//! Resolve-and-verify beside plain sha256 of the same bytes, in one run: `cargo run --release -p void-module --example
//! verify_speed`. Ratios count; the machine's absolute speed drifts.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use void_api::{CidText, Target};
use void_module::{Supply, SupplyConfig};

const ROUNDS: usize = 40;

/// The best of the rounds: what the machine does when it does nothing else.
fn best(times: &[Duration]) -> f64 {
    times.iter().min().unwrap().as_secs_f64() * 1e6
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let top = tempfile::tempdir().unwrap();
    println!("{:>10} {:>14} {:>14} {:>7} {:>14}", "bytes", "sha256 µs", "cache µs", "ratio", "memory µs");
    for size in [50usize, 100_000, 1_000_000, 20_000_000, 50_000_000] {
        let bytes: Vec<u8> =
            (0..size as u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let cid = CidText::raw(digest).to_string();
        let cache = top.path().join("cache");
        let folder = cache.join(&cid[..2]).join(&cid[2..4]);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{cid}.wasm")), &bytes).unwrap();
        let target = Target::Cid(CidText::raw(digest));
        let (mut plain, mut cold, mut hot) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            std::hint::black_box(Sha256::digest(std::hint::black_box(&bytes)));
            plain.push(begun.elapsed());

            let mut config = SupplyConfig::new(top.path().join("state"));
            config.cache_dir = Some(cache.clone());
            let supply = Supply::new(config).unwrap();
            // Its threads are up before the clock starts.
            runtime.block_on(supply.upload("t", Bytes::from_static(b"x"))).unwrap();
            let begun = Instant::now();
            let module = runtime.block_on(supply.resolve("t", &target)).unwrap();
            cold.push(begun.elapsed());
            assert_eq!(module.bytes.len(), size);

            let begun = Instant::now();
            for _ in 0..1000 {
                std::hint::black_box(runtime.block_on(supply.resolve("t", &target)).unwrap());
            }
            hot.push(begun.elapsed() / 1000);
        }
        let (plain, cold, hot) = (best(&plain), best(&cold), best(&hot));
        println!("{size:>10} {plain:>14.1} {cold:>14.1} {:>7.2} {hot:>14.3}", cold / plain);
    }
}
