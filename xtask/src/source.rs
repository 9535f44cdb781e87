//! The rules that the source text shows: where `unsafe` may stand, who may name bincode, what libraries must not print.
//!
//! They look at code only: comments and literals are blanked first, test modules where a rule is about the product.

use std::fs;
use std::path::Path;

use crate::strip::{blank_comments_and_literals, blank_test_modules, words};

/// Folders whose own business is unsafe kernel work.
const UNSAFE_FOLDERS: &[&str] = &["seccomp/"];
/// The one unsafe call outside: the engine is handed compiled code. One `unsafe`, in this file.
const UNSAFE_CALLS: &[&str] = &["sandbox-worker/src/engine.rs"];
/// The one file that names the codec.
const CODEC: &str = "ipc/src/codec.rs";
/// Programs for people, whose business is to print.
const PRINTING: &[&str] = &["cli/", "xtask/", "tests/", "benches/", "fuzz/"];
/// Crates that judge and describe.
const PURE: &[&str] = &["api/src/", "policy/src/"];
const IMPURE_WORDS: &[&str] =
    &["TcpStream", "TcpListener", "UdpSocket", "ToSocketAddrs", "SystemTime", "Instant"];
const IMPURE_PATHS: &[&str] = &["std::fs", "std::env", "std::process", "std::thread"];
/// Names that say nothing about what a file holds.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "common", "manager", "misc"];
/// Lines of a file that a person still reads in one sitting.
const MOST_LINES: usize = 500;

/// The workspace's members: every folder of the root with a manifest.
pub(crate) fn members(root: &Path) -> Result<Vec<String>, String> {
    let mut members: Vec<String> =
        entries(root)?.into_iter().filter(|name| root.join(name).join("Cargo.toml").is_file()).collect();
    members.sort();
    Ok(members)
}

/// A file's text.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}

/// Every broken rule, one sentence each, with file and line.
pub(crate) fn violations(root: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for member in members(root)? {
        let mut files = Vec::new();
        rust_files(root, &member, &mut files)?;
        for file in files {
            judge(&file, &read(&root.join(&file))?, &mut found);
        }
    }
    Ok(found)
}

fn judge(file: &str, text: &str, found: &mut Vec<String>) {
    let code = blank_comments_and_literals(text);
    let product = blank_test_modules(&code);
    let mut report = |line: usize, why: &str| found.push(format!("{file}:{line}: {why}"));
    let is_in = |folders: &[&str]| folders.iter().any(|folder| file.starts_with(folder));

    if !is_in(UNSAFE_FOLDERS) {
        let allowed = usize::from(UNSAFE_CALLS.contains(&file));
        for line in words(&code, "unsafe").into_iter().skip(allowed) {
            report(
                line,
                "unsafe outside of seccomp/: put the kernel work there, behind a safe function with a SAFETY comment",
            );
        }
        forbids_unsafe(file, &code, &mut report);
    }
    if file != CODEC {
        for line in words(&code, "bincode") {
            report(
                line,
                "names bincode: only ipc/src/codec.rs may, so that a maintained format can replace it; name its types through codec",
            );
        }
    }
    if !is_in(PRINTING)
        && file.contains("/src/")
        && !file.ends_with("/main.rs")
        && !file.contains("/src/bin/")
    {
        for name in ["println", "print", "eprintln", "eprint", "dbg"] {
            for line in words(&product, name).into_iter().filter(|&line| calls_macro(&product, line, name)) {
                report(line, "a library prints: return the value, or log it with tracing");
            }
        }
    }
    if is_in(PURE) {
        for line in IMPURE_WORDS.iter().flat_map(|word| words(&product, word)) {
            report(
                line,
                "a clock or a socket in a crate that judges without I/O: let the supervisor pass the value in",
            );
        }
        for (index, line) in product.lines().enumerate() {
            if IMPURE_PATHS.iter().any(|path| line.contains(path)) {
                report(
                    index + 1,
                    "I/O in a crate that judges without it: let the supervisor pass the value in",
                );
            }
        }
    }
    let name = file.rsplit('/').find(|part| !matches!(*part, "mod.rs")).unwrap_or(file);
    if EMPTY_NAMES.contains(&name.trim_end_matches(".rs")) {
        report(1, "a name that says nothing about what the file holds: name the thing in it");
    }
    let lines = text.lines().count();
    if lines > MOST_LINES {
        report(lines, "more than 500 lines: split it by what each part holds");
    }
}

/// A crate's root states that the crate is free of unsafe code, or, where one call is allowed, denies it elsewhere.
fn forbids_unsafe(file: &str, code: &str, report: &mut impl FnMut(usize, &str)) {
    let (folder, rest) = file.split_once('/').unwrap_or(("", file));
    let is_root = rest == "src/lib.rs" || rest == "src/main.rs" || rest.starts_with("src/bin/");
    let one_call = UNSAFE_CALLS.iter().any(|call| call.split('/').next() == Some(folder));
    let stated =
        code.contains("#![forbid(unsafe_code)]") || (one_call && code.contains("#![deny(unsafe_code)]"));
    if is_root && !stated {
        report(1, "the crate's root does not say #![forbid(unsafe_code)]: add the line below the header");
    }
}

fn calls_macro(code: &str, line: usize, name: &str) -> bool {
    code.lines().nth(line - 1).is_some_and(|text| text.contains(&format!("{name}!")))
}

fn rust_files(root: &Path, folder: &str, files: &mut Vec<String>) -> Result<(), String> {
    for name in entries(&root.join(folder))? {
        let path = format!("{folder}/{name}");
        if root.join(&path).is_dir() {
            if name != "target" && !name.starts_with('.') {
                rust_files(root, &path, files)?;
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<String>, String> {
    let unreadable = |error| format!("{}: cannot be listed: {error}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::judge;

    fn broken(file: &str, text: &str) -> usize {
        let mut found = Vec::new();
        judge(file, text, &mut found);
        found.len()
    }

    #[test]
    fn unsafe_counts_in_code_and_not_in_comments_or_literals() {
        assert_eq!(broken("store/src/x.rs", "fn f() { unsafe { g() } }"), 1);
        assert_eq!(broken("store/src/x.rs", "// unsafe\nfn f() -> &'static str { \"unsafe\" }"), 0);
        assert_eq!(broken("seccomp/src/x.rs", "fn f() { unsafe { g() } }"), 0);
        assert_eq!(broken("sandbox-worker/src/engine.rs", "unsafe { a() }\nunsafe { b() }"), 1);
    }

    #[test]
    fn a_root_states_that_it_has_no_unsafe_code() {
        assert_eq!(broken("store/src/lib.rs", "//! x\npub mod a;"), 1);
        assert_eq!(broken("store/src/lib.rs", "//! x\n#![forbid(unsafe_code)]\npub mod a;"), 0);
        assert_eq!(broken("sandbox-worker/src/lib.rs", "#![deny(unsafe_code)]"), 0);
        assert_eq!(broken("store/src/lib.rs", "// #![forbid(unsafe_code)]"), 1);
    }

    #[test]
    fn libraries_do_not_print_but_their_tests_may() {
        assert_eq!(broken("store/src/x.rs", "fn f() { println!(\"a\"); }"), 1);
        assert_eq!(broken("store/src/x.rs", "#[cfg(test)]\nmod tests {\n    fn f() { println!(); }\n}\n"), 0);
        assert_eq!(broken("cli/src/x.rs", "fn f() { println!(\"a\"); }"), 0);
    }

    #[test]
    fn judging_crates_read_no_clock_and_only_the_codec_names_bincode() {
        assert_eq!(broken("policy/src/x.rs", "let now = Instant::now();"), 1);
        assert_eq!(broken("policy/src/x.rs", "use std::net::IpAddr;"), 0);
        assert_eq!(broken("ipc/src/messages.rs", "use bincode::Encode;"), 1);
        assert_eq!(broken("ipc/src/codec.rs", "use bincode::Encode;"), 0);
    }

    #[test]
    fn names_and_lengths_are_held_to_the_style() {
        assert_eq!(broken("store/src/utils.rs", ""), 1);
        assert_eq!(broken("store/src/common/mod.rs", ""), 1);
        assert_eq!(broken("store/src/x.rs", &"\n".repeat(501)), 1);
    }
}
