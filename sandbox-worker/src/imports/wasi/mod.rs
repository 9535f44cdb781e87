//! WASI preview 1 by wasmtime-wasi: without files, without network, without a kernel syscall of its own.
//!
//! What it makes at first use is made in the zygote ([`prepare_random`], [`add`] and the warm-up). Three functions are ours, because the
//! originals would wait on threads, ask for memory that a run process does not have, or know no exit code beyond 125.
//! Nothing is opened for the guest but its three streams, so no path leads anywhere.

mod clocks;
mod poll;
mod streams;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use void_ipc::message::{Stream, WasiStart};
use wasmtime::{Caller, Linker, Result};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{WasiCtxBuilder, p1};

use super::memory;
use crate::engine::RunState;
use crate::line::Line;

/// The name under which these functions are imported.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// The guest asked for its end.
#[derive(Debug, thiserror::Error)]
#[error("the guest exited with code {0}")]
pub struct Exit(pub u32);

/// What one guest's WASI is.
pub struct Wasi {
    context: WasiP1Ctx,
    random: StdRng,
    clocks: clocks::Clocks,
}

impl std::fmt::Debug for Wasi {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Wasi").finish_non_exhaustive()
    }
}

impl Wasi {
    /// For a guest that is about to start. What it writes goes over `line`.
    pub fn new(start: &WasiStart, stdin: Vec<u8>, line: &Line) -> Wasi {
        let clocks = clocks::Clocks::start();
        let mut random = StdRng::from_seed(start.seed);
        let context = WasiCtxBuilder::new()
            .args(&start.argv)
            .envs(&start.env)
            .stdin(MemoryInputPipe::new(stdin))
            .stdout(streams::Output::new(line, Stream::Stdout))
            .stderr(streams::Output::new(line, Stream::Stderr))
            .wall_clock(clocks)
            .monotonic_clock(clocks)
            // Without these it would go on with numbers that all run processes of a zygote share.
            .secure_random(StdRng::from_rng(&mut random))
            .insecure_random(StdRng::from_rng(&mut random))
            .insecure_random_seed(u128::from(random.next_u64()))
            .allow_tcp(false)
            .allow_udp(false)
            .build_p1();
        Wasi { context, random, clocks }
    }

    /// For the time before a guest starts.
    pub fn idle(line: &Line) -> Wasi {
        let start = WasiStart { argv: Vec::new(), env: Vec::new(), stdin_bytes: 0, seed: [0; 32] };
        Wasi::new(&start, Vec::new(), line)
    }
}

/// What must be made while there still is a `/dev/random`: wasmtime-wasi draws numbers for a guest, which are replaced by those
/// of the guest's own seed, from a generator that asks for its first ones only.
pub fn prepare_random() {
    drop(std::hint::black_box(WasiCtxBuilder::new()));
}

/// Makes, once in a zygote, the event loop that wasmtime-wasi insists on: one without threads, timers and descriptors.
/// All futures of what a guest has here are ready at once, so it never comes to wait.
///
/// # Errors
/// tokio's; without drivers there is nothing that could fail.
fn prepare_event_loop() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    // For the life of the process: otherwise wasmtime-wasi would make one of its own, with threads.
    std::mem::forget(Box::leak(Box::new(runtime)).enter());
    Ok(())
}

/// Adds them.
///
/// # Errors
/// wasmtime's, where a name is defined twice.
pub(super) fn add(linker: &mut Linker<RunState>) -> Result<()> {
    if tokio::runtime::Handle::try_current().is_err() {
        prepare_event_loop()?;
    }
    p1::add_to_linker_sync(linker, |state: &mut RunState| &mut state.wasi().context)?;
    linker.allow_shadowing(true);
    linker.func_wrap(MODULE, "poll_oneoff", poll::poll_oneoff)?;
    linker.func_wrap(MODULE, "proc_exit", proc_exit)?;
    linker.func_wrap(MODULE, "random_get", random_get)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn proc_exit(code: i32) -> Result<()> {
    Err(Exit(code.cast_unsigned()).into())
}

fn random_get(mut caller: Caller<'_, RunState>, buffer: i32, length: i32) -> Result<i32> {
    let memory = memory::exported(&caller, "wasi_snapshot_preview1.random_get")?;
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let span = memory::span(bytes, "wasi_snapshot_preview1.random_get", "buf", buffer, length)?;
    state.wasi().random.fill_bytes(&mut bytes[span]);
    Ok(0)
}
