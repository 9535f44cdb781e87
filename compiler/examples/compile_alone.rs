//! Compiles a module with the engine's own compiler as it is configured here, on one thread of one process, and prints how
//! many milliseconds that took: what a cold start is held against (`cargo xtask bench cold`). No lock-down, no limits.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a measuring tool ends at the first thing that is wrong")]

use std::time::{Duration, Instant};

/// Small modules are compiled again and again for so long; the best counts.
const TURN: Duration = Duration::from_secs(1);

fn main() {
    let path = std::env::args().nth(1).expect("the path of a module");
    let wasm = std::fs::read(&path).expect("a module that can be read");
    let mut config = void_engine::config();
    config.cranelift_opt_level(wasmtime::OptLevel::Speed);
    let engine = wasmtime::Engine::new(&config).expect("an engine");
    let begun = Instant::now();
    let mut best = Duration::MAX;
    while begun.elapsed() < TURN {
        let begun = Instant::now();
        let code = engine.precompile_module(&wasm).expect("a module that compiles");
        best = best.min(begun.elapsed());
        std::hint::black_box(code);
    }
    println!("{}", best.as_secs_f64() * 1e3);
}
