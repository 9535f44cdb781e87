//! The real `void-wasm`, run to its end.

use std::process::{Command, Stdio};

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

/// Runs `void-wasm` with these arguments against `server`, without a terminal and with an empty environment.
#[track_caller]
pub fn void_wasm(server: &Server, args: &[&str]) -> Said {
    let output = Command::new(binaries::release_dir().join("void-wasm"))
        .args(args)
        .env_clear()
        .env("VOID_WASM_SERVER", format!("http://{}", server.address()))
        .stdin(Stdio::null())
        .output()
        .expect("void-wasm can be executed: run `cargo xtask build --release` first");
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
