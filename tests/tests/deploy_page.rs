//! Every command of docs/deploy.md is run by the boot test: it stands in `deploy/boot-test/guest.sh`, word for word, or is
//! named below with who runs it. What the commands do is checked there, on a machine that they may change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::path::{Path, PathBuf};

/// Commands that the script does not run, each with who does.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo xtask deb", "the boot test itself, before it boots"),
    ("cargo xtask install", "the boot test itself: below a folder that the script lays over its root"),
    ("cargo xtask boot-test", "it is the boot test"),
];

/// How a command in the middle of a sentence begins.
const PROGRAMS: &[&str] =
    &["apt-get", "cargo", "dpkg", "journalctl", "sysctl", "systemctl", "systemd-analyze", "void-wasm"];

fn text(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A line without the comment at its end.
fn bare(line: &str) -> &str {
    line.split("  #").next().unwrap_or_default().trim()
}

/// The commands of a page and what they are given to read: lines of its scripts, lines behind `# ` that it shows on a
/// console, and what sentences name.
fn commands(page: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut inside = None;
    for line in page.lines() {
        assert!(
            line.starts_with("```") || line.matches('`').count().is_multiple_of(2),
            "code goes on in the next line, and is not seen here: {line}"
        );
        match (inside, line.strip_prefix("```")) {
            (None, Some(language)) => inside = Some(language),
            (Some(_), Some(_)) => inside = None,
            (Some("sh" | "ini"), None) => found.push(bare(line)),
            (Some("console"), None) => found.extend(line.strip_prefix("# ")),
            (None, None) => {
                found.extend(line.split('`').skip(1).step_by(2).filter(|code| {
                    code.split_once(' ').is_some_and(|(program, _)| PROGRAMS.contains(&program))
                }))
            }
            _ => {}
        }
    }
    found.retain(|command| !command.is_empty() && !command.starts_with('#'));
    found
}

/// Whether a script has the command, and no longer one that begins alike.
fn runs(script: &str, command: &str) -> bool {
    let lines = script.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let ends =
        |rest: &str| !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || ".-_/=".contains(next));
    lines.into_iter().any(|line| line.match_indices(command).any(|(at, _)| ends(&line[at + command.len()..])))
}

#[test]
fn every_command_stands_in_the_script() {
    let (page, script) = (text("docs/deploy.md"), text("deploy/boot-test/guest.sh"));
    let commands = commands(&page);
    let is_elsewhere = |command: &str| ELSEWHERE.iter().any(|(known, _)| runs(command, known));
    let missing: Vec<_> =
        commands.iter().filter(|command| !runs(&script, command) && !is_elsewhere(command)).collect();
    assert!(missing.is_empty(), "guest.sh does not run {missing:#?}");
    for (known, _) in ELSEWHERE {
        assert!(commands.iter().any(|command| runs(command, known)), "the page has no {known} any more");
    }
    // Each kind is found: in a script, on a console, in a piece of a unit, in a sentence.
    for known in [
        "systemctl daemon-reload",
        "systemctl reload void-wasm",
        "ListenStream=/run/void-wasm.sock",
        "apt-get purge void-wasm",
    ] {
        assert!(commands.contains(&known), "{known} is not among {commands:#?}");
    }
}

#[test]
fn a_command_that_is_missing_is_seen() {
    let page = "Say `systemctl stop it` or\n```sh\na --b c   # why\n# only a comment\n```\n```console\n# d e\nprinted\n```\n";
    assert_eq!(commands(page), ["systemctl stop it", "a --b c", "d e"]);
    assert!(runs("check \"so\" a --b c\n", "a --b c"));
    assert!(!runs("a --b cd\na --b c.service\n# a --b c\n", "a --b c"));
}

#[test]
fn the_script_is_one() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/boot-test/guest.sh");
    let output = std::process::Command::new("sh").arg("-n").arg(script).output().expect("a shell");
    assert!(output.status.success(), "{}", void_tests::said(&output));
}
