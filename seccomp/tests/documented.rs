//! docs/isolation.md prints the filters as they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::fmt::Write;

use void_seccomp::filter::{COMPILER, REUSE, RUN, Rule, TIE, WASI, ZYGOTE};

const PAGE: &str = include_str!("../../docs/isolation.md");

/// A filter as the page prints it.
fn table(rules: &[Rule]) -> String {
    let mut table = "| kernel syscall | only where | why |\n|---|---|---|\n".to_owned();
    for rule in rules {
        let conditions: Vec<String> = rule
            .arguments
            .iter()
            .map(|(position, _, value)| match value {
                0..10 => format!("argument {position} is {value}"),
                _ => format!("argument {position} is {value:#x}"),
            })
            .collect();
        writeln!(table, "| `{}` | {} | {} |", rule.name, conditions.join(", "), rule.reason).unwrap();
    }
    table
}

#[test]
fn the_page_has_every_filter_as_it_is() {
    for (name, rules) in [
        ("RUN", RUN),
        ("WASI", WASI),
        ("REUSE", REUSE),
        ("ZYGOTE", ZYGOTE),
        ("TIE", TIE),
        ("COMPILER", COMPILER),
    ] {
        let table = table(rules);
        assert!(PAGE.contains(&table), "docs/isolation.md must hold {name} as it is:\n\n{table}");
    }
}
