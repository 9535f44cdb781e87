//! Calling cargo: where the workspace and its target folder are, and one clean way to start a child cargo.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Packages that contain the engine, as they may meet in one cargo call. In one call features unify: together, the
/// worker would be given the compiler.
pub(crate) const ENGINE_GROUPS: [&[&str]; 2] =
    [&["void-engine", "void-sandbox-worker", "void-hostile-worker"], &["void-sandbox-compiler"]];

/// The flags that select all packages without the engine, and without these.
pub(crate) fn parts_without(others: &[&'static str]) -> Vec<&'static str> {
    let excluded = ENGINE_GROUPS.iter().copied().flatten().chain(others);
    ["--workspace"].into_iter().chain(excluded.flat_map(|package| ["--exclude", package])).collect()
}

/// The flags that select these packages alone.
pub(crate) fn only(packages: &[&'static str]) -> Vec<&'static str> {
    packages.iter().flat_map(|package| ["-p", package]).collect()
}

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let own = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    own.parent().map_or_else(|| own.clone(), Path::to_path_buf)
}

/// The target folder: `CARGO_TARGET_DIR`, else `target` in the root.
pub(crate) fn target_dir() -> Result<PathBuf, String> {
    match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        // Cargo reads a relative path from where the user stands, and the children run in the root.
        Some(dir) => env::current_dir().map(|here| here.join(dir)).map_err(|error| {
            format!("the current folder cannot be read ({error}): change to the project's folder")
        }),
        None => Ok(root().join("target")),
    }
}

/// A cargo call in the workspace's root, as if the user had typed it.
pub(crate) fn cargo(arguments: &[&str]) -> Result<Command, String> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The variables that cargo sets for this program would reach build scripts, which then run again for nothing.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|own| name.starts_with(own))
        {
            command.env_remove(name.as_ref());
        }
    }
    command.env("CARGO_TARGET_DIR", target_dir()?).current_dir(root()).args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// Runs a command to its end, with its output shown as it comes. `stage` names it in what is printed.
pub(crate) fn stage(stage: &str, mut command: Command) -> Result<(), String> {
    eprintln!("── {stage}");
    let start = Instant::now();
    let status = command.status().map_err(|error| format!("{stage}: cannot be started: {error}"))?;
    let seconds = start.elapsed().as_secs_f32();
    if status.success() {
        eprintln!("── {stage}: done in {seconds:.1} s");
        Ok(())
    } else {
        Err(format!("{stage}: failed ({status}) after {seconds:.1} s, its output is above"))
    }
}

/// Runs every stage, also after a failure, so that one run tells everything; then names those that failed.
pub(crate) fn all(outcomes: Vec<Result<(), String>>) -> Result<(), String> {
    let failures: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\nxtask: ")) }
}

/// What a cargo call prints, for the ones that are asked rather than watched.
pub(crate) fn answer(arguments: &[&str]) -> Result<String, String> {
    let output = cargo(arguments)?
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("cargo {}: cannot be started: {error}", arguments.join(" ")))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo {}: {}", arguments.join(" "), told.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
