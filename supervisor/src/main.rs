//! `void-supervisor`: the service. It reads requests, judges them, and has others do what is dangerous.
//!
//! It never parses wasm, never loads machine code and never forks. The way of a run stands in [`run`]; what
//! happens at the start and at the end, in [`service`].
#![forbid(unsafe_code)]

mod app;
mod check;
mod compile;
mod describe;
mod gateway;
mod history;
mod http;
mod lane;
mod listen;
mod logging;
mod metrics;
mod notify;
mod outcome;
mod pool;
mod proof;
mod random;
mod readiness;
mod recover;
mod run;
mod run_ids;
mod runs;
mod service;
mod settings;
mod slots;
mod spawner;
mod stream;
mod worker;

use std::process::ExitCode;

use clap::Parser;

/// Runs other people's WebAssembly, each run in a locked-down process of its own.
///
/// All settings are environment variables; see docs/settings.md. SIGHUP reads WASM_ENV_FILE again, SIGTERM drains.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {}

fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    logging::init();
    match service::start() {
        Ok(never) => match never {},
        Err(error) => {
            tracing::error!(%error, "void-supervisor does not start");
            ExitCode::from(error.exit_code())
        }
    }
}
