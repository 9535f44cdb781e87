//! `cargo xtask check`: everything that is wrong with the tree and needs no run to be seen.

use crate::cargo::{ENGINE_GROUPS, all, cargo, only, parts_without, stage};
use crate::edges;

/// Runs every check, also after one has failed.
pub(crate) fn run() -> Result<(), String> {
    let mut outcomes = vec![format(), edges::run()];
    let mut groups = vec![("the supervisor's side".to_owned(), parts_without(&[]))];
    groups.extend(ENGINE_GROUPS.map(|group| (group.join(", "), only(group))));
    for (name, packages) in groups {
        outcomes.push(lint(&name, &packages));
        outcomes.push(document(&name, &packages));
    }
    all(outcomes)
}

fn format() -> Result<(), String> {
    stage("formatting", cargo(&["fmt", "--all", "--check"])?)
        .map_err(|reason| format!("{reason}: `cargo fmt --all` puts it right"))
}

fn lint(name: &str, packages: &[&str]) -> Result<(), String> {
    // In the release profile, as the tests: build scripts and the C code that they compile are shared with them.
    let mut command = cargo(&["clippy", "--release", "--all-targets"])?;
    command.args(packages).args(["--", "-D", "warnings"]);
    stage(&format!("lints of {name}"), command)
}

fn document(name: &str, packages: &[&str]) -> Result<(), String> {
    let mut command = cargo(&["doc", "--release", "--no-deps"])?;
    command.args(packages).env("RUSTDOCFLAGS", "-D warnings");
    stage(&format!("documentation of {name}"), command)
}
