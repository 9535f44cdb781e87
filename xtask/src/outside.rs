//! Tests that need a program from outside the tree: `cargo xtask openapi-test` and `cargo xtask pictures-test`.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::build::{self, Profile};
use crate::cargo::{cargo, stage, target_dir};

/// The version that the expectations in `tests/schemathesis.toml` are written for.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// What Chromium is called where.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

/// Holds the running service against its OpenAPI document.
pub(crate) fn openapi() -> Result<(), String> {
    let folder = target_dir()?.join("schemathesis");
    let program = folder.join("bin/st");
    let known = folder.join("version");
    if !program.is_file() || std::fs::read_to_string(&known).ok().as_deref() != Some(SCHEMATHESIS) {
        let mut python = Command::new("python3");
        python.args(["-m", "venv", "--clear"]).arg(&folder);
        stage("a place for Python packages", python)
            .map_err(|reason| format!("{reason}: apt-get install python3-venv"))?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS]).stdin(Stdio::null());
        stage(SCHEMATHESIS, pip)?;
        std::fs::write(&known, SCHEMATHESIS).map_err(|error| format!("{}: {error}", known.display()))?;
    }
    build::run(Profile::Release)?;
    ignored_test("openapi", &[("VOID_WASM_SCHEMATHESIS", program)])
}

/// Looks at the status page in a browser, and leaves pictures of it.
pub(crate) fn pictures() -> Result<(), String> {
    let browser = BROWSERS
        .iter()
        .find_map(|name| find(name))
        .ok_or("no Chromium is installed: apt-get install chromium")?;
    build::run(Profile::Release)?;
    let folder = target_dir()?.join("pictures");
    let outcome =
        ignored_test("pictures", &[("VOID_WASM_CHROMIUM", browser), ("VOID_WASM_PICTURES", folder.clone())]);
    eprintln!("   pictures: {}", folder.display());
    outcome
}

/// Runs the tests of a file that are left out otherwise.
fn ignored_test(name: &str, variables: &[(&str, PathBuf)]) -> Result<(), String> {
    let mut command =
        cargo(&["test", "--release", "-p", "void-tests", "--test", name, "--", "--ignored", "--nocapture"])?;
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    stage(&format!("{name}, through real processes"), command)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}
