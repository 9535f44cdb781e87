//! Compilers of guests, fetched by `examples/toolchains.sh` into the target folder, and what they make.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::registry::{not_checked, target_dir};

/// The exit code of the scripts in `examples/` where a compiler cannot be had on this machine.
const CANNOT_BE_HAD: i32 = 3;

/// The folder `examples/` of the repository.
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// The folder of a compiler: `c`, `assemblyscript`, `rust` or `go`. `None`, and said, where it cannot be had here. npm
/// and pip are everywhere, so that CI insists on all but `rust`, which only one release of Debian has.
#[track_caller]
pub fn toolchain(name: &str) -> Option<PathBuf> {
    let said = script("toolchains.sh", &[name]);
    if said.status.code() == Some(CANNOT_BE_HAD) {
        return missing(name, &said);
    }
    assert!(said.status.success(), "toolchains.sh {name}: {}", errors(&said));
    Some(PathBuf::from(String::from_utf8_lossy(&said.stdout).trim()))
}

/// The guest `guest-NAME` of `examples/`, built anew. `None`, and said, where its compiler cannot be had here.
#[track_caller]
pub fn build_example(name: &str) -> Option<Vec<u8>> {
    let out = TempDir::new().expect("a temporary folder");
    let said = script("build.sh", &["--out", &out.path().to_string_lossy(), name]);
    if said.status.code() == Some(CANNOT_BE_HAD) {
        return missing(name, &said);
    }
    assert!(said.status.success(), "build.sh {name}: {}", errors(&said));
    Some(fs::read(out.path().join(format!("guest-{name}.wasm"))).expect("build.sh writes the module"))
}

#[track_caller]
fn missing<T>(name: &str, said: &Output) -> Option<T> {
    let why = format!("{name}: {}", errors(said));
    if name == "rust" {
        eprintln!("NOT CHECKED: {why}");
        return None;
    }
    not_checked(&why)
}

#[track_caller]
fn script(name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("bash");
    command.arg(examples().join(name)).args(arguments);
    command.env("VOID_WASM_TOOLCHAINS", target_dir().join("toolchains"));
    command.output().expect("bash can be executed")
}

fn errors(said: &Output) -> String {
    String::from_utf8_lossy(&said.stderr).trim().to_owned()
}
