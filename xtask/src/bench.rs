//! `cargo xtask bench`: builds what is measured and what measures, and runs it. What it does stands in `benches/`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::build::{self, Profile};
use crate::cargo::{cargo, root, stage, target_dir};

/// Stored runs for the recovery.
const RUNS: &str = "1000000";

/// What can be measured instead of runs.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// What a gateway call costs the guest, beside a bare round trip over such a socket
    Calls,
    /// What the store costs: runs per second with it and without it
    Store,
    /// How long the store takes to open with a million stored runs
    Recovery,
    /// Finding and verifying a module, beside sha256 of the same bytes
    Resolve,
    /// The first run of a module, beside the engine's compiler alone
    Cold,
}

/// Builds in the release profile, and measures gateway calls.
fn calls() -> Result<(), String> {
    build::run(Profile::Release)?;
    stage("build bench", cargo(&["build", "--release", "--bins", "-p", "void-bench"])?)?;
    stage("bench calls", Command::new(build::folder(Profile::Release)?.join("void-bench-calls")))
}

/// Builds in the release profile and measures for `seconds` a step.
pub(crate) fn run(what: Option<What>, seconds: u32) -> Result<(), String> {
    match what {
        Some(What::Calls) => return calls(),
        Some(What::Resolve) => {
            stage("build bench", cargo(&["build", "--release", "--bins", "-p", "void-bench"])?)?;
            return stage(
                "bench resolve",
                Command::new(build::folder(Profile::Release)?.join("void-resolve")),
            );
        }
        Some(What::Recovery) => {
            let example =
                ["run", "--release", "-p", "void-store", "--example", "throughput", "--", RUNS, "big"];
            return stage("bench recovery", cargo(&example)?);
        }
        None | Some(What::Store | What::Cold) => {}
    }
    build::run(Profile::Release)?;
    stage("build bench", cargo(&["build", "--release", "--bins", "-p", "void-bench"])?)?;

    let mut command = Command::new(build::folder(Profile::Release)?.join("void-bench"));
    command
        .args(["--seconds", &seconds.to_string(), "--manifests"])
        .arg(root().join("examples/chimera-output"));
    if what == Some(What::Cold) {
        // In a call of its own, like everything that has the compiler in it.
        let example = ["build", "--release", "-p", "void-sandbox-compiler", "--example", "compile_alone"];
        stage("build the engine's compiler alone", cargo(&example)?)?;
        command.arg("--cold").arg(build::folder(Profile::Release)?.join("examples/compile_alone"));
    }
    if what == Some(What::Store) {
        command.arg("--without-store").arg(without_store()?);
    }
    stage("bench", command)
}

/// Builds the supervisor that stores nothing, into a folder of its own, where nobody takes it for the real one.
fn without_store() -> Result<PathBuf, String> {
    let target = target_dir()?.join("without-store");
    let mut build = cargo(&["build", "--release", "--bins", "-p", "void-supervisor"])?;
    build.args(["--features", "bench-no-store", "--target-dir"]).arg(&target);
    stage("build supervisor without store", build)?;
    let folder = target.join("release");
    for worker in ["void-sandbox-worker", "void-sandbox-compiler"] {
        let (from, to) = (build::folder(Profile::Release)?.join(worker), folder.join(worker));
        fs::copy(&from, &to).map_err(|error| format!("{}: cannot be copied: {error}", from.display()))?;
    }
    Ok(folder)
}
