//! The real `void-wasm`, run to its end.

use std::process::{Command, Output, Stdio};

use super::binaries;
use super::server::Server;

/// What a command left.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; -1 where a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// `void-wasm` with these arguments against `server`, not yet started: without a terminal, with an empty environment.
pub fn void_wasm_command(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(binaries::release_dir().join("void-wasm"));
    command
        .args(args)
        .env_clear()
        .env("VOID_WASM_SERVER", format!("http://{}", server.address()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs `void-wasm` with these arguments against `server`.
#[track_caller]
pub fn void_wasm(server: &Server, args: &[&str]) -> Said {
    void_wasm_command(server, args)
        .output()
        .expect("void-wasm can be executed: run `cargo xtask build --release` first")
        .into()
}
