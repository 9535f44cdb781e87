//! `cargo xtask`: the one door to the project's chores.
//!
//! Each chore has a file of its own. What must not enter: anything of the product itself. This crate builds in seconds
//! on an empty machine, so it depends on no other crate of the workspace.

#![forbid(unsafe_code)]

mod bench;
mod boot_test;
mod build;
mod cargo;
mod check;
mod deb;
mod demo;
mod dev;
mod edges;
mod http;
mod install;
mod outside;
mod server;
mod source;
mod strip;
mod test;

use std::path::PathBuf;
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
    /// Serves, and builds anew and restarts at every change of a source file
    Dev {
        /// In the release profile, which shares what the tests have built
        #[arg(long)]
        release: bool,
    },
    /// Builds and runs all tests, in the release profile
    Test {
        /// After `--`: names of tests to run, and flags for the test runner
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// Installs schemathesis beside the target folder's files, and holds the service against its OpenAPI document
    OpenapiTest,
    /// Looks at the status page in headless Chromium, and leaves pictures of it in the target folder
    PicturesTest,
    /// Builds, and measures the service beside an echo on this machine: runs per second, latency, CPU time, stages
    Bench {
        /// What else to measure instead
        #[arg(value_enum)]
        what: Option<bench::What>,
        /// Seconds of load for each side and each number of connections
        #[arg(long, default_value_t = 3)]
        seconds: u32,
    },
    /// Builds, and lays everything where a system expects it: programs, units, settings, documents. Starts nothing
    Install {
        /// Where programs and documents go; settings always go to /etc
        #[arg(long, default_value = "/usr/local")]
        prefix: PathBuf,
        /// A folder that stands for the root
        #[arg(long, default_value = "/")]
        destdir: PathBuf,
    },
    /// Builds a Debian package, into target/debian
    Deb,
    /// Boots a real Debian in qemu, installs the package there, and checks what an operator does. Needs root, minutes,
    /// and the first time Debian's mirror
    BootTest {
        /// Code names of the releases
        #[arg(default_values_t = ["trixie".to_owned(), "bookworm".to_owned()])]
        releases: Vec<String>,
        /// Where Debian's packages come from; otherwise where debootstrap has them from
        #[arg(long)]
        mirror: Option<String>,
        /// A package that is there already
        #[arg(long)]
        deb: Option<PathBuf>,
    },
    /// Formatting, lints, documentation and the architecture's forbidden edges
    Check,
    /// The architecture's forbidden edges alone: takes a second, builds nothing
    Edges,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Build { release } => build::run(profile(release)),
        Chore::Demo { once } => demo::run(once),
        Chore::Dev { release } => dev::run(profile(release)),
        Chore::OpenapiTest => outside::openapi(),
        Chore::PicturesTest => outside::pictures(),
        Chore::Test { filter } => test::run(&filter),
        Chore::Bench { what, seconds } => bench::run(what, seconds),
        Chore::Install { prefix, destdir } => install::run(&prefix, &destdir),
        Chore::Deb => deb::run(),
        Chore::BootTest { releases, mirror, deb } => {
            boot_test::run(&releases, mirror.as_deref(), deb.as_deref())
        }
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

const fn profile(release: bool) -> build::Profile {
    if release { build::Profile::Release } else { build::Profile::Dev }
}
