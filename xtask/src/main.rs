//! `cargo xtask`: the one door to the project's chores.
//!
//! Each chore has a file of its own. What must not enter: anything of the product itself. This crate builds in seconds
//! on an empty machine, so it depends on no other crate of the workspace.

#![forbid(unsafe_code)]

mod bench;
mod build;
mod cargo;
mod check;
mod demo;
mod edges;
mod http;
mod server;
mod source;
mod strip;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Builds the four binaries, each side on its own, and proves that the worker holds no compiler
    Build {
        /// Optimised, into target/release: what the tests and the demo use
        #[arg(long)]
        release: bool,
    },
    /// Builds, starts a server with a temporary state, executes add(2, 3), shows the record, and goes on serving
    Demo {
        /// Stops the server after the record, and succeeds if the result was 5
        #[arg(long)]
        once: bool,
    },
    /// Builds and runs all tests, in the release profile
    Test {
        /// After `--`: names of tests to run, and flags for the test runner
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// Builds, and measures the service beside an echo on this machine: runs per second, latency, CPU time, stages
    Bench {
        /// Seconds of load for each side and each number of connections
        #[arg(long, default_value_t = 3)]
        seconds: u32,
    },
    /// Formatting, lints, documentation and the architecture's forbidden edges
    Check,
    /// The architecture's forbidden edges alone: takes a second, builds nothing
    Edges,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Build { release } => {
            build::run(if release { build::Profile::Release } else { build::Profile::Dev })
        }
        Chore::Demo { once } => demo::run(once),
        Chore::Test { filter } => test::run(&filter),
        Chore::Bench { seconds } => bench::run(seconds),
        Chore::Check => check::run(),
        Chore::Edges => edges::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}
