//! Programs of Debian that a test asks for its opinion.

use std::io::ErrorKind;
use std::process::{Command, Output};

/// Runs a program of the Debian package `package`, and returns what it said. `None` where it is missing, which CI (the
/// variable `CI` is set) does not accept.
#[track_caller]
pub fn tool(package: &str, command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let program = command.get_program().to_string_lossy().into_owned();
            assert!(std::env::var_os("CI").is_none(), "{program} is missing: apt-get install {package}");
            eprintln!("NOT CHECKED: {program} is missing (apt-get install {package})");
            None
        }
        Err(error) => panic!("{command:?} cannot be started: {error}"),
    }
}

/// Both outputs as one text.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
