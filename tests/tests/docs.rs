//! Every command in the documentation, run as a reader would: each page in one shell, top to bottom, against the real
//! service. Where a page shows what a command prints, it must print that.
//!
//! A `console` block holds commands behind `$ ` and their output; an `sh` block is a script. In shown output, `…` stands
//! for anything; ids, times and durations are compared by their form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Commands that this test does not run, each with who does. One that ends in `*` stands for all that begin so.
const ELSEWHERE: &[(&str, &str)] = &[
    (".ci/run", "whoever submits: it runs this test"),
    ("cargo xtask test", "stage test of .ci/run, which runs this test"),
    ("cargo xtask check", "stage check of .ci/run"),
    ("cargo xtask openapi-test", "stage openapi of .ci/run"),
    ("cargo xtask pictures-test", "stage pictures of .ci/run"),
    ("cargo xtask edges", "stage check of .ci/run"),
    ("cargo xtask build --release", "stage test of .ci/run begins with it"),
    (
        "cargo xtask bench*",
        "stage bench of .ci/run, which looks at no number: those are for people, and for a quiet machine",
    ),
    ("cargo xtask boot-test*", "by hand: it boots a machine"),
    ("sudo *", "the test that installs the package on a machine of its own"),
    ("systemctl *", "the test that installs the package on a machine of its own"),
    ("journalctl *", "the test that installs the package on a machine of its own"),
    ("systemd-*", "the test of the unit files"),
    ("promtool *", "the test of the alert rules"),
    ("apt *", "the test that installs the package on a machine of its own"),
    ("apt-get *", "the test that installs the package on a machine of its own"),
    ("dpkg *", "the test that installs the package on a machine of its own"),
];

/// Pages whose commands change the machine: they are followed on a machine of its own, by whom.
const PAGES_ELSEWHERE: &[(&str, &str)] = &[(
    "docs/deploy.md",
    "deploy/boot-test/guest.sh, by `cargo xtask boot-test`; deploy_page.rs compares the two",
)];

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(100);
/// How long a chore may take that builds what has changed: where the tests have just been built, seconds.
const TO_BUILD: Duration = Duration::from_secs(400);
/// The address that all pages name.
const SHOWN: &str = "127.0.0.1:3456";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// A command of a page.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    line: usize,
    command: String,
    /// What it prints, where the page shows it.
    output: Option<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside: Option<String> = None;
    for (index, line) in page.lines().enumerate() {
        match (&inside, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                inside = Some(language.trim().to_owned());
                if language.trim() == "sh" {
                    steps.push(Step { line: index + 1, command: String::new(), output: None });
                }
            }
            (Some(_), Some(_)) => inside = None,
            (Some(language), None) if language == "sh" => {
                let step = steps.last_mut().expect("pushed at its start");
                step.command.push_str(line);
                step.command.push('\n');
            }
            (Some(language), None) if language == "console" => match line.strip_prefix("$ ") {
                Some(command) => {
                    steps.push(Step { line: index + 1, command: command.to_owned(), output: None })
                }
                None => {
                    let Some(step) = steps.last_mut() else { continue };
                    if step.output.is_none() && is_unfinished(&step.command) {
                        step.command.push('\n');
                        step.command.push_str(line);
                    } else if !line.trim().is_empty() || step.output.is_some() {
                        let output = step.output.get_or_insert_default();
                        output.push_str(line);
                        output.push('\n');
                    }
                }
            },
            _ => {}
        }
    }
    steps
}

/// Whether the shell would ask for more.
fn is_unfinished(command: &str) -> bool {
    let quotes = |quote: char| command.chars().filter(|letter| *letter == quote).count();
    command.ends_with('\\') || quotes('\'') % 2 == 1
}

fn elsewhere(command: &str) -> Option<&'static str> {
    let is = |known: &str| match known.strip_suffix('*') {
        Some(start) => command.starts_with(start),
        None => command == known,
    };
    ELSEWHERE.iter().find(|(known, _)| is(known)).map(|(_, who)| *who)
}

/// A page's shell, and everything that was started in it.
struct Shell {
    child: Child,
    to: ChildStdin,
    from: BufReader<std::process::ChildStdout>,
    address: String,
    _home: tempfile::TempDir,
}

impl Shell {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let release =
            std::env::current_exe().expect("this test").ancestors().nth(2).expect("the folder").to_owned();
        let folder = home.path().join("void-wasm");
        std::fs::create_dir(&folder).expect("a folder");
        symlink(root().join("examples"), folder.join("examples")).expect("a link");
        symlink(release.parent().expect("the target folder"), folder.join("target")).expect("a link");
        let free =
            TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").to_string();
        let path = format!("{}:{}", release.display(), std::env::var("PATH").expect("a PATH"));
        let mut child = Command::new("bash")
            .args(["--norc", "--noprofile"])
            .current_dir(&folder)
            .env("PATH", path)
            .env("WASM_LISTEN", &free)
            .env("WASM_STATE_DIR", home.path().join("state"))
            .env("FNPM_CACHE_DIR", home.path().join("cache"))
            .env("FNPM_HTTP_GATEWAYS", "")
            .env("VOID_WASM_SERVER", format!("http://{free}"))
            .env("LC_ALL", "C.UTF-8")
            .env_remove("WASM_ENV_FILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(std::fs::File::create(home.path().join("stderr")).expect("a file")))
            .process_group(0)
            .spawn()
            .expect("bash can be executed");
        let (to, from) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, to, from: BufReader::new(from), address: free, _home: home }
    }

    /// Runs a command: its exit code, and what it wrote to stdout.
    fn run(&mut self, command: &str) -> (i32, String) {
        let command = command.replace(SHOWN, &self.address);
        writeln!(self.to, "{command}\necho \"--end of command $?--\"").expect("the shell listens");
        let group = Pid::from_raw(self.child.id() as i32);
        let (_done, patience) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if patience.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _ = killpg(group, Signal::SIGKILL);
            }
        });
        let mut output = String::new();
        loop {
            let mut line = String::new();
            let read = self.from.read_line(&mut line).expect("UTF-8");
            assert!(read > 0, "the shell has ended: {command}\n{output}\n{}", self.errors());
            if let Some((before, rest)) = line.split_once("--end of command ") {
                output.push_str(before);
                let code = rest.trim_end().trim_end_matches('-').parse().expect("an exit code");
                return (code, output.replace(&self.address, SHOWN));
            }
            output.push_str(&line);
        }
    }

    fn serve(&mut self, command: &str) {
        self.run(&format!("{command} >/dev/null & served=$!"));
        let (code, _) = self.run("for i in $(seq 300); do void-wasm status >/dev/null 2>&1 && break; sleep 0.1; done; void-wasm status");
        assert_eq!(code, 0, "{command}: not ready\n{}", self.errors());
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(self._home.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The shell and what it started are a group of their own.
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// What differs from run to run, by its form.
fn normal(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for line in text.lines() {
        let mut rest = line.trim_end();
        while let Some(letter) = rest.chars().next() {
            let (form, length) = variable(rest).unwrap_or(("", 0));
            if length > 0 {
                shown.push_str(form);
                rest = &rest[length..];
            } else {
                shown.push(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
        shown.push('\n');
    }
    shown
}

/// A run's id, a moment, a duration or a process id at the start.
fn variable(text: &str) -> Option<(&'static str, usize)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    if text.starts_with("wasm_") && text.len() >= 31 {
        return Some(("RUN", 31));
    }
    if let Some(rest) = text.strip_prefix("127.0.0.1:") {
        return Some(("ADDRESS", text.len() - rest.len() + digits(rest)));
    }
    if digits(text) == 4 && text.len() >= 24 && &text[4..5] == "-" && &text[23..24] == "Z" {
        return Some(("TIME", 24));
    }
    for field in ["\"cpu_ms\":", "\"wall_ms\":", "\"wait_ms\":", "void-wasm-demo-"] {
        if let Some(rest) = text.strip_prefix(field) {
            return Some(("SOME", field.len() + digits(rest)));
        }
    }
    None
}

/// Whether what was printed is what the page shows, with `…` for anything.
fn is_shown(shown: &str, printed: &str) -> bool {
    let (shown, printed) = (normal(shown.trim()), normal(printed.trim()));
    let mut parts = shown.trim_end().split('…');
    let Some(mut rest) = parts.next().and_then(|first| printed.trim_end().strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    rest.is_empty() || last == Some("")
}

fn follow(page: &str, text: &str) -> String {
    let mut wrong = String::new();
    let steps = steps(text);
    if steps.iter().all(|step| elsewhere(step.command.trim()).is_some()) {
        return wrong;
    }
    let mut shell = Shell::new();
    shell.serve(
        "WASM_EXEC_ENABLED=1 WASM_EXEC_CANARY=1 FNPM_MANIFEST_DIRS=examples/chimera-output void-supervisor",
    );
    for Step { line, command, output } in steps {
        let command = command.trim();
        if elsewhere(command).is_some() {
            continue;
        }
        if command.contains("void-supervisor") {
            // The page starts its own, on the same address and state.
            shell.run("kill $served; wait $served");
        }
        if command.ends_with("void-supervisor") {
            shell.serve(command);
            continue;
        }
        let (code, printed) = match command.strip_prefix("cargo xtask ") {
            // They serve until they are told to end, and build in the folder where they are.
            Some(chore @ ("demo" | "dev")) => serve_and_stop(chore),
            _ => shell.run(command),
        };
        if code != 0 {
            let _ = writeln!(wrong, "{page}:{line}: exit {code}: {command}\n{printed}\n{}", shell.errors());
        }
        if let Some(shown) = output
            && !is_shown(&shown, &printed)
        {
            let _ = writeln!(wrong, "{page}:{line}: {command}\n shows:\n{shown}\n prints:\n{printed}");
        }
    }
    wrong
}

/// Runs a chore that serves; ends it with Ctrl-C when it says that it does.
fn serve_and_stop(chore: &str) -> (i32, String) {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["xtask", chore]).current_dir(root()).env("WASM_LISTEN", "127.0.0.1:0");
    if chore == "dev" {
        // What the tests have built already.
        command.arg("--release");
        command.env(
            "WASM_STATE_DIR",
            std::env::temp_dir().join(format!("void-wasm-docs-{}", std::process::id())),
        );
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("cargo can be executed");
    let mut errors = BufReader::new(child.stderr.take().expect("a pipe"));
    let group = Pid::from_raw(child.id() as i32);
    let (said, serving) = (Arc::new(Mutex::new(String::new())), mpsc::channel());
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let reader = {
        let said = Arc::clone(&said);
        let tell = serving.0.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|read| read > 0) {
                said.lock().unwrap().push_str(&line);
                if line.starts_with("{\"run_id\"") {
                    let _ = tell.send(());
                }
                line.clear();
            }
        })
    };
    let watcher = std::thread::spawn(move || {
        let (mut all, mut line) = (String::new(), String::new());
        while errors.read_line(&mut line).is_ok_and(|read| read > 0) {
            if line.starts_with("Serving;") {
                let _ = serving.0.send(());
            }
            all.push_str(&line);
            line.clear();
        }
        all
    });
    let mut served = serving.1.recv_timeout(TO_BUILD);
    if chore == "dev" && served.is_ok() {
        // A file that no build depends on is written: the server is restarted.
        let file =
            std::fs::File::options().append(true).open(root().join("rustfmt.toml")).expect("a file of ours");
        file.set_modified(std::time::SystemTime::now()).expect("its time can be set");
        served = serving.1.recv_timeout(TO_BUILD);
    }
    let _ = killpg(group, Signal::SIGINT);
    let status = child.wait().expect("its end");
    let (_, errors) = (reader.join(), watcher.join().unwrap_or_default());
    let printed = said.lock().unwrap().clone();
    let code = if served.is_ok() { status.code().unwrap_or(-1) } else { -1 };
    if code == 0 { (0, printed) } else { (code, printed + &errors) }
}

fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).expect("the pages");
    let mut pages: Vec<PathBuf> = docs.map(|entry| entry.expect("a page").path()).collect();
    pages.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    pages.extend(["README.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    pages.sort();
    pages
}

#[test]
fn every_command_works_as_shown() {
    let mut wrong = String::new();
    for path in pages() {
        let text = std::fs::read_to_string(&path).expect("a page");
        let name = path.strip_prefix(root()).expect("in the tree").display().to_string();
        if let Some((_, who)) = PAGES_ELSEWHERE.iter().find(|(page, _)| *page == name) {
            println!("NOT FOLLOWED HERE: {name} is followed by {who}");
            continue;
        }
        wrong.push_str(&follow(&name, &text));
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn who_runs_the_others_is_there() {
    let ci = std::fs::read_to_string(root().join(".ci/run")).expect(".ci/run");
    for (page, who) in PAGES_ELSEWHERE {
        let script = who.split(',').next().expect("a file");
        assert!(root().join(script).is_file(), "{page}: there is no {script}");
    }
    for (command, who) in ELSEWHERE {
        if let Some(stage) = who.strip_prefix("stage ").and_then(|rest| rest.split(' ').next()) {
            assert!(ci.contains(&format!("stage \"{stage}\" ")), "{command}: .ci/run has no stage {stage}");
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = String::new();
    for path in pages() {
        let text = std::fs::read_to_string(&path).expect("a page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || link.contains("://") {
                continue;
            }
            if !path.parent().expect("a folder").join(file).exists() {
                let _ = writeln!(broken, "{}: {link}", path.display());
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{broken}");
}

#[test]
fn blocks_are_taken_apart() {
    let page = "```console\n$ a\nx …\n\n$ b 'c\n  d'\n$ e\n```\n```sh\nf\ng\n```\n```json\n$ no\n```\n";
    let step = |line, command: &str, output: Option<&str>| Step {
        line,
        command: command.to_owned(),
        output: output.map(str::to_owned),
    };
    assert_eq!(
        steps(page),
        [
            step(2, "a", Some("x …\n\n")),
            step(5, "b 'c\n  d'", None),
            step(7, "e", None),
            step(9, "f\ng\n", None)
        ]
    );
}

#[test]
fn shown_output_is_compared_by_its_form() {
    let printed = "{\"run_id\":\"wasm_01m83b16w49b1qbe393w5xqzb4\",\"cpu_ms\":12,\"at\":\"2026-11-23T04:36:07.172Z\",\"b\":1}\n";
    for (shown, fits) in [
        (
            "{\"run_id\":\"wasm_01m83b1xem86xd64qtw1t4sxzk\",\"cpu_ms\":0,\"at\":\"2025-11-23T04:36:07.172Z\",\"b\":1}",
            true,
        ),
        ("{…,\"b\":1}", true),
        ("{…\"b\":1,…}", false),
        ("{…,\"b\":2}", false),
        ("…", true),
        ("{", false),
        ("", false),
    ] {
        assert_eq!(is_shown(shown, printed), fits, "{shown}");
    }
    assert!(is_shown("5\n", "5\n") && !is_shown("5\n", "55\n"));
}
