//! `cargo xtask test`: all tests, in one profile.
//!
//! One profile (release), so that an empty target folder is filled once: on two cores the engine is what takes time.
//!
//! The tests through real processes hold the service to times of the clock on the wall. A machine that stands still for a
//! moment fails them for no fault of the code, so a file of them that failed is run once more at the end. What passes only
//! then is named in the last line: it is a fault to be looked at, in the test or in the code.

use std::fs;
use std::process::{Command, Stdio};

use crate::build::{self, Profile};
use crate::cargo::{ENGINE_GROUPS, all, cargo, only, parts_without, root, stage};

/// The package whose tests start the built binaries.
const INTEGRATION: &str = "void-tests";

/// Runs all tests; `filter` goes to the test runner as it is.
pub(crate) fn run(filter: &[String]) -> Result<(), String> {
    build::run(Profile::Release)?;

    let mut outcomes = vec![call("tests of the parts", &parts_without(&[INTEGRATION]), filter)];
    for group in ENGINE_GROUPS {
        outcomes.push(call(&format!("tests of {}", group.join(", ")), &only(group), filter));
    }

    // Testing a package also lays its binaries into the folder, linked with what only its tests need (the worker's with a
    // compiler, perhaps). This lays the real ones there again; nothing is compiled anew.
    build::run(Profile::Release)?;
    build::hostile_worker()?;
    outcomes.push(call("tests of the tests' own parts", &["-p", INTEGRATION, "--lib"], filter));
    outcomes.push(through_real_processes(filter));
    all(outcomes)
}

/// The same command, ended when it takes too long.
fn bounded(command: &Command) -> Command {
    let mut bounded = Command::new("timeout");
    bounded.args(["--kill-after=10", PATIENCE]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bounded.current_dir(folder);
    }
    bounded.stdin(Stdio::null());
    bounded
}

/// Each file by itself, and those that failed once more when nothing else is left to do.
fn through_real_processes(filter: &[String]) -> Result<(), String> {
    let one = |file: &str| {
        call(&format!("through real processes: {file}"), &["-p", INTEGRATION, "--test", file], filter)
    };
    let failed: Vec<String> = files()?.into_iter().filter(|file| one(file).is_err()).collect();
    let outcomes: Vec<_> = failed.iter().map(|file| one(file)).collect();
    for (file, outcome) in failed.iter().zip(&outcomes) {
        let then =
            if outcome.is_ok() { "passed when it was run once more: look at it" } else { "failed twice" };
        eprintln!("── tests/tests/{file}.rs failed once and {then}");
    }
    all(outcomes)
}

fn files() -> Result<Vec<String>, String> {
    let folder = root().join("tests/tests");
    let unreadable = |error| format!("{}: cannot be read: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        files.extend(name.to_str().and_then(|name| name.strip_suffix(".rs")).map(str::to_owned));
    }
    files.sort();
    Ok(files)
}

/// The longest that one call may take, seconds. What hangs then is a failure like any other.
const PATIENCE: &str = "1200";

fn call(name: &str, packages: &[&str], filter: &[String]) -> Result<(), String> {
    let mut command = bounded(&cargo(&["test", "--release", "--no-fail-fast"])?);
    command.args(packages);
    if !filter.is_empty() {
        command.arg("--").args(filter);
    }
    stage(name, command)
}
