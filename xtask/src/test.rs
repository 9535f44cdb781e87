//! `cargo xtask test`: all tests, in one profile.
//!
//! One profile (release), so that an empty target folder is filled once: on two cores the engine is what takes time.

use crate::build::{self, Profile};
use crate::cargo::{ENGINE_GROUPS, all, cargo, only, parts_without, stage};

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
    outcomes.push(call("tests through real processes", &only(&[INTEGRATION]), filter));
    all(outcomes)
}

fn call(name: &str, packages: &[&str], filter: &[String]) -> Result<(), String> {
    let mut command = cargo(&["test", "--release", "--no-fail-fast"])?;
    command.args(packages);
    if !filter.is_empty() {
        command.arg("--").args(filter);
    }
    stage(name, command)
}
