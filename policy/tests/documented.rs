//! docs/settings.md lists every variable with the default and the accepted values that the code has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::fmt::Write;

use void_policy::Settings;
use void_policy::settings::{Reload, VARIABLES};

const PAGE: &str = include_str!("../../docs/settings.md");
const HOME: &str = "/home/you";

/// Values of which each variable refuses at least one.
const WRONG: [&str; 2] = ["", "\0 no value of anything ://"];

fn settings(vars: &[(&str, &str)]) -> Result<Settings, String> {
    let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::from_vars(vars, None, 1)
        .map(|(settings, _)| settings)
        .map_err(|errors| errors[0].accepted.clone())
}

/// What a refusal says that is accepted.
fn accepted(name: &str) -> String {
    WRONG.iter().find_map(|wrong| settings(&[("HOME", HOME), (name, wrong)]).err()).expect(name)
}

fn default(name: &str, in_force: &str) -> String {
    match name {
        "WASM_WORKERS" => format!("{in_force} × cores"),
        _ if in_force.is_empty() => "none".to_owned(),
        _ => format!("`{}`", in_force.replace(HOME, "~")),
    }
}

#[test]
fn the_page_has_every_variable_as_it_is() {
    let defaults = settings(&[("HOME", HOME)]).unwrap().in_force();
    let mut missing = String::new();
    for (variable, (name, value)) in VARIABLES.iter().zip(&defaults) {
        let when = if variable.reload == Reload::Follows { "reload" } else { "restart" };
        let shown = if variable.public { "yes" } else { "no" };
        let row = format!("| `{name}` | {} | {} | {when} | {shown} | ", default(name, value), accepted(name));
        let found =
            PAGE.lines().any(|line| line.strip_prefix(&row).is_some_and(|meaning| meaning.len() > 10));
        if !found {
            writeln!(missing, "{row}").unwrap();
        }
    }
    assert!(
        missing.is_empty(),
        "docs/settings.md lacks these rows, each to be ended with a meaning:\n{missing}"
    );
    let rows =
        PAGE.lines().filter(|line| line.starts_with("| `WASM_") || line.starts_with("| `FNPM_")).count();
    assert_eq!(rows, VARIABLES.len(), "docs/settings.md has a variable that there is not, or one twice");
}
