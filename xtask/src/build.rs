//! `cargo xtask build`: the four binaries, in three cargo calls, and the proof that the worker holds no compiler.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cargo::{cargo, stage, target_dir};

/// What names the compiler's crate in a binary: its symbols, and the source paths in its panic messages.
const COMPILER_MARKS: [&[u8]; 2] = [b"cranelift_codegen", b"cranelift-codegen-"];

/// How the worker is linked, which is linked alone: dependencies and build scripts stay as they are. Without shared libraries, and
/// with its code on huge pages' boundaries, to which a zygote moves it (`hold_own_code_ready` in `seccomp/src/memory.rs`), and
/// with room for a stack between its parts (`seccomp/src/sys/stack.rs`).
const WORKER: &[&str] = &[
    "--",
    "-C",
    "target-feature=+crt-static",
    "-C",
    "link-arg=-Wl,-z,max-page-size=0x400000",
    "-C",
    "link-arg=-Wl,-z,separate-loadable-segments",
];

/// How the binaries are optimised.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build, slow to run.
    Dev,
    /// What is shipped and tested.
    Release,
}

/// Builds all four binaries and checks the worker.
pub(crate) fn run(profile: Profile) -> Result<(), String> {
    // One call for each: cargo unifies the features of what one call builds, and the compiler's would reach the worker.
    // The worker is linked statically: fewer mappings and relocations, which every fork of a run process pays for.
    call(
        "build worker",
        &["rustc", "--bin", "void-sandbox-worker", "-p", "void-sandbox-worker"],
        WORKER,
        profile,
    )?;
    call("build compiler", &["build", "--bins", "-p", "void-sandbox-compiler"], &[], profile)?;
    call(
        "build supervisor and CLI",
        &["build", "--bins", "-p", "void-supervisor", "-p", "void-wasm"],
        &[],
        profile,
    )?;

    let folder = folder(profile)?;
    prove_worker_without_compiler(&folder)?;
    for name in ["void-supervisor", "void-sandbox-worker", "void-sandbox-compiler", "void-wasm"] {
        eprintln!("   {}", folder.join(name).display());
    }
    Ok(())
}

/// Builds the worker that tests put in the worker's place.
pub(crate) fn hostile_worker() -> Result<(), String> {
    let package = "void-hostile-worker";
    call("build hostile worker", &["rustc", "--bin", package, "-p", package], WORKER, Profile::Release)
}

/// The folder in which the binaries of a profile lie.
pub(crate) fn folder(profile: Profile) -> Result<PathBuf, String> {
    Ok(target_dir()?.join(if profile == Profile::Release { "release" } else { "debug" }))
}

fn call(name: &str, arguments: &[&str], last: &[&str], profile: Profile) -> Result<(), String> {
    let mut command = cargo(arguments)?;
    if profile == Profile::Release {
        command.arg("--release");
    }
    command.args(last);
    stage(name, command)
}

fn prove_worker_without_compiler(folder: &Path) -> Result<(), String> {
    if holds_compiler(&folder.join("void-sandbox-worker"))? {
        return Err("void-sandbox-worker contains the compiler (cranelift_codegen), which would put a million lines in \
                    reach of a hostile guest: find who turns on wasmtime's cranelift feature with \
                    `cargo tree -p void-sandbox-worker -e features -i wasmtime`"
            .to_owned());
    }
    // The same look at the binary that must hold it: a scan that finds nothing anywhere proves nothing.
    if !holds_compiler(&folder.join("void-sandbox-compiler"))? {
        return Err("void-sandbox-compiler shows no sign of cranelift_codegen, so the look at the worker proved nothing: \
                    adapt COMPILER_MARKS in xtask/src/build.rs"
            .to_owned());
    }
    Ok(())
}

fn holds_compiler(binary: &Path) -> Result<bool, String> {
    let bytes = fs::read(binary).map_err(|error| format!("{}: cannot be read: {error}", binary.display()))?;
    Ok(COMPILER_MARKS.iter().any(|mark| contains(&bytes, mark)))
}

/// Whether `needle` occurs in `hay`. Looks for the first byte only, which keeps an unoptimised build quick.
fn contains(hay: &[u8], needle: &[u8]) -> bool {
    let Some(&first) = needle.first() else { return true };
    let mut rest = hay;
    while let Some(at) = rest.iter().position(|&byte| byte == first) {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn a_mark_is_found_wherever_it_lies() {
        assert!(contains(b"xx cranelift_codegen::isa yy", b"cranelift_codegen"));
        assert!(contains(b"ccranelift_codegen", b"cranelift_codegen"));
        assert!(!contains(b"cranelift_codege", b"cranelift_codegen"));
        assert!(!contains(b"", b"cranelift_codegen"));
    }
}
