//! docs/errors.md lists every problem code and every reason, each with what to do about it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::fmt::Write;

use void_api::{ProblemCode, Reason};

const PAGE: &str = include_str!("../../docs/errors.md");

fn has_row(start: &str) -> bool {
    PAGE.lines().any(|line| line.strip_prefix(start).is_some_and(|rest| rest.len() > 10))
}

fn rows(table: &str) -> usize {
    let (_, rest) = PAGE.split_once(table).unwrap_or_else(|| panic!("docs/errors.md has no {table}"));
    rest.lines().skip(2).take_while(|line| line.starts_with("| `")).count()
}

#[test]
fn the_page_has_every_problem_code() {
    let mut missing = String::new();
    for code in ProblemCode::ALL {
        let row = format!("| `{code}` | {} | {} | ", code.status(), code.title());
        if !has_row(&row) {
            writeln!(missing, "{row}").unwrap();
        }
    }
    assert!(
        missing.is_empty(),
        "docs/errors.md lacks these rows, each to be ended with a remedy:\n{missing}"
    );
    assert_eq!(rows("| code | status | what is wrong | what to do |"), ProblemCode::ALL.len());
}

#[test]
fn the_page_has_every_reason() {
    let mut missing = String::new();
    for reason in Reason::ALL {
        let row = format!("| `{reason}` | ");
        if !has_row(&row) {
            writeln!(missing, "{row}").unwrap();
        }
    }
    assert!(missing.is_empty(), "docs/errors.md lacks these rows:\n{missing}");
    assert_eq!(rows("| reason | what happened | what to do |"), Reason::ALL.len());
}
