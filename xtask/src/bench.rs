//! `cargo xtask bench`: builds what is measured and what measures, and runs it. What it does stands in `benches/`.

use std::process::Command;

use crate::build::{self, Profile};
use crate::cargo::{cargo, root, stage};

/// Builds in the release profile and measures for `seconds` a step.
pub(crate) fn run(seconds: u32) -> Result<(), String> {
    build::run(Profile::Release)?;
    stage("build bench", cargo(&["build", "--release", "--bins", "-p", "void-bench"])?)?;

    let mut command = Command::new(build::folder(Profile::Release)?.join("void-bench"));
    command
        .args(["--seconds", &seconds.to_string(), "--manifests"])
        .arg(root().join("examples/chimera-output"));
    stage("bench", command)
}
