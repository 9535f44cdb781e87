//! The command line, as a user types it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]
#![allow(clippy::approx_constant, reason = "the example's numbers are its own")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use void_tests::{EnvFile, Said, Server, eventually, void_wasm, void_wasm_command};

/// A server whose guests may compute for as long as a test lasts.
fn patient() -> Server {
    Server::builder().env("WASM_CPU_MS_BUDGET", "60000").env("WASM_WALL_MS_BUDGET", "60000").start()
}

#[test]
fn a_result_is_all_that_goes_to_stdout() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let said = void_wasm(
        &server,
        &["exec", &cid, "--entry", "add(i32,i32)->i32", "--i32", "2", "--i32", "3", "--wait"],
    );
    assert_eq!((said.code, said.stdout.trim()), (0, "5"), "{said:?}");
}

#[test]
fn typed_values_keep_the_order_in_which_they_were_typed() {
    let server = Server::start();
    let cid = server.upload_guest("multi_value");
    let said = void_wasm(&server, &["exec", &cid, "--entry", "swap", "--i32", "-7", "--i64=-8", "--wait"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(serde_json::from_str::<Value>(&said.stdout).expect("JSON"), json!(["-8", -7]));
}

#[test]
fn a_file_is_uploaded_first() {
    let server = Server::start();
    let file = tempfile::Builder::new().suffix(".wasm").tempfile().expect("a temporary file");
    std::fs::write(file.path(), void_tests::guest("identity")).expect("written");
    let path = file.path().to_str().expect("a plain path");
    let said = void_wasm(&server, &["exec", path, "--entry", "f64", "--f64", "3.14", "--wait"]);
    assert_eq!((said.code, said.stdout.trim()), (0, "3.14"), "{said:?}");
}

#[test]
fn the_whole_record_comes_as_json() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let args = [
        "exec", &cid, "--entry", "add", "--arg", "40", "--arg", "2", "--label", "who=me", "--wait", "--json",
    ];
    let said = void_wasm(&server, &args);
    let record: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    assert_eq!((&record["result"], &record["labels"]), (&json!(42), &json!({"who": "me"})));
}

#[test]
fn without_waiting_the_run_is_named() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let said = void_wasm(&server, &["exec", &cid, "--entry", "add", "--i32", "2", "--i32", "3"]);
    assert_eq!(said.code, 0, "{said:?}");
    let id = said.stdout.split_whitespace().find(|word| word.starts_with("wasm_")).expect("an id");
    assert_eq!(server.wait_for(id).result(), &json!(5));
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let server = Server::start();
    let cid = server.upload_guest("traps");
    let trapped = void_wasm(&server, &["exec", &cid, "--entry", "divide_by_zero", "--wait"]);
    assert_eq!((trapped.code, trapped.stdout.as_str()), (1, ""), "{trapped:?}");
    assert!(trapped.stderr.contains("zero"), "{trapped:?}");
    assert_eq!(void_wasm(&server, &["exec"]).code, 2);
    assert_eq!(void_wasm(&server, &["exec", &cid, "--i32", "x", "--wait"]).code, 2);
    assert_eq!(void_wasm(&server, &["dance"]).code, 2);

    let off = Server::builder().env("WASM_EXEC_ENABLED", "0").start();
    assert_eq!(void_wasm(&off, &["exec", &cid, "--entry", "add", "--wait"]).code, 75);

    server.kill_and_expect_nothing_left(std::time::Duration::from_secs(10));
    let nobody = void_wasm(&server, &["exec", &cid, "--entry", "add", "--wait"]);
    assert_eq!(nobody.code, 69, "{nobody:?}");
}

#[test]
fn a_digest_is_an_ast_hash_and_else_the_bytes() {
    let server = Server::start();
    let module = void_tests::guest("identity");
    server.upload(&module);
    let digest = format!("sha256:{}", sha256(&module));
    let said = void_wasm(&server, &["exec", &digest, "--entry", "f64", "--f64", "6.28", "--wait"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "6.28\n"), "{said:?}");
    // Also without waiting the right run is named.
    let said = void_wasm(&server, &["exec", &digest, "--entry", "f64", "--f64", "6.28"]);
    assert_eq!(server.wait_for(said.stdout.trim()).result(), &json!(6.28), "{said:?}");
    let nobody = format!("sha256:{}", "ab".repeat(32));
    let said = void_wasm(&server, &["exec", &nobody, "--wait"]);
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
    assert!(said.stderr.contains("module_not_found") && said.stderr.contains("modules push"), "{said:?}");
}

#[test]
fn a_digest_that_a_manifest_knows_stays_an_ast_hash() {
    let module = void_tests::guest("add");
    let scout = Server::start();
    let cid = scout.upload(&module);
    drop(scout);
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let digest = format!("sha256:{}", "c".repeat(64));
    let manifest = json!({"version": "1", "createdAt": "2025-01-01T00:00:00Z", "genes": [{
        "name": "adder", "lang": "wat", "entry": "add", "cid": cid, "sha256": sha256(&module),
        "size": module.len(), "astHash": digest,
    }]});
    std::fs::write(folder.path().join("manifest.json"), manifest.to_string()).expect("written");
    let manifests = folder.path().to_str().expect("a plain path");
    let server = Server::builder().env("FNPM_MANIFEST_DIRS", manifests).start();
    let add = ["exec", &digest, "--entry", "add", "--i32", "2", "--i32", "3", "--wait"];
    let said = void_wasm(&server, &add);
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
    assert!(said.stderr.contains("adder.wasm"), "what the manifest lists is missing: {said:?}");
    assert_eq!(server.list(usize::MAX).len(), 1, "asked once");
    std::fs::write(folder.path().join("adder.wasm"), &module).expect("written");
    let said = void_wasm(&server, &add);
    assert_eq!((said.code, said.stdout.as_str()), (0, "5\n"), "{said:?}");
    let newest = &server.list(usize::MAX)[0];
    let source = newest["source"].as_str().unwrap_or_default();
    assert!(source.ends_with(&format!(" gives {cid}")), "what ran is known: {newest}");
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}

#[test]
fn a_frozen_run_was_accepted_and_has_no_result() {
    let server = Server::builder().env("WASM_EXEC_FREEZE", "1").start();
    let cid = server.upload_guest("add");
    let said = void_wasm(&server, &["exec", &cid, "--entry", "add", "--i32", "1", "--i32", "2"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.starts_with("wasm_") && said.stderr.contains("frozen"), "{said:?}");
    let said = void_wasm(&server, &["exec", &cid, "--entry", "add", "--i32", "1", "--i32", "2", "--wait"]);
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
    assert!(said.stderr.contains("send it again after the thaw"), "{said:?}");
    assert_eq!(void_wasm(&server, &["status"]).code, 0);
}

#[test]
fn a_dry_run_says_that_it_was_one() {
    let server = Server::builder().env("WASM_EXEC_CANARY", "0").start();
    let cid = server.upload_guest("add");
    let said = void_wasm(&server, &["exec", &cid, "--entry", "add", "--i32", "1", "--i32", "2", "--wait"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "{\"dry_run\":true}\n"), "{said:?}");
    assert!(said.stderr.contains("not executed"), "{said:?}");
}

#[test]
fn what_the_service_knows_is_shown_and_is_json_where_asked() {
    let server = Server::start();
    let file = tempfile::Builder::new().suffix(".wasm").tempfile().expect("a temporary file");
    std::fs::write(file.path(), void_tests::guest("add")).expect("written");
    let path = file.path().to_str().expect("a plain path");
    let ask = |args: &[&str]| {
        let said = void_wasm(&server, args);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{args:?} {said:?}");
        said.stdout
    };
    let read = |args: &[&str]| -> Value {
        let text = ask(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };

    let cid = ask(&["modules", "push", path]).trim().to_owned();
    assert_eq!(read(&["modules", "push", path])["cid"], json!(cid));
    assert!(ask(&["modules", "show", &cid]).contains("export  func add (i32, i32) -> (i32)"));
    assert_eq!(read(&["modules", "show", &cid])["exports"][0]["name"], "add");

    let run = ask(&["exec", &cid, "--entry", "add", "--i32", "1", "--i32", "2", "--label", "a=b"])
        .trim()
        .to_owned();
    assert_eq!(ask(&["runs", &run, "--follow"]), "3\n");
    assert_eq!(read(&["runs", &run])["result"], 3);
    assert!(ask(&["runs", &run]).contains("result    3"));
    let table = ask(&["runs", "--label", "a=b", "--status", "finished", "--mode", "live"]);
    assert!(
        table.starts_with("RUN ") && table.lines().nth(1).is_some_and(|row| row.starts_with(&run)),
        "{table}"
    );
    assert_eq!(read(&["runs", "--limit", "1"])["runs"][0]["run_id"], json!(run));
    assert_eq!(read(&["runs", "--label", "a=c"])["runs"], json!([]));

    assert!(ask(&["policy"]).contains("isolation "));
    assert_eq!(read(&["policy"])["isolation"], "run");
    assert_eq!(ask(&["status"]), "ready\n");
    assert_eq!(read(&["status"])["ready"], true);

    let said = void_wasm(&server, &["cancel", &run]);
    assert_eq!(said.code, 77, "{said:?}");
    assert!(said.stderr.contains("already_ended"), "{said:?}");
}

/// A started command whose stdout is read line by line.
struct Started {
    child: std::process::Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Started {
    fn new(server: &Server, args: &[&str]) -> Self {
        let plain = void_wasm_command(server, args);
        // A shell starts what it runs in the background with Ctrl-C ignored, and that is inherited.
        let mut child = Command::new("/usr/bin/env")
            .arg("--default-signal=INT")
            .arg(plain.get_program())
            .args(plain.get_args())
            .env_clear()
            .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("void-wasm can be executed");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line in UTF-8");
        line
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("the command is alive");
    }

    fn end(mut self) -> Said {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).expect("UTF-8");
        let output = self.child.wait_with_output().expect("its end");
        Said { stdout: rest, ..Said::from(output) }
    }
}

#[test]
fn runs_are_followed_as_they_happen() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let first = server.run(&cid, "add", json!([1, 1]));
    let mut follower = Started::new(&server, &["runs", "--follow"]);
    assert!(follower.line().starts_with("RUN "));
    assert!(follower.line().starts_with(first.id()));
    let second = server.run(&cid, "add", json!([2, 2]));
    // Once when it began, where that was seen in time, and once when it ended.
    let line =
        std::iter::repeat_with(|| follower.line()).find(|line| line.contains("finished")).expect("endless");
    assert!(line.starts_with(second.id()) && line.trim_end().ends_with('4'), "{line}");
    follower.signal(Signal::SIGINT);
    follower.end();

    let mut events = Started::new(&server, &["events", "--json", "--run-id", second.id()]);
    let started: Value = serde_json::from_str(&events.line()).expect("JSON");
    let finished: Value = serde_json::from_str(&events.line()).expect("JSON");
    assert_eq!(
        (&started["type"], &finished["type"]),
        (&json!("wasm.exec.started"), &json!("wasm.exec.finished"))
    );
    events.signal(Signal::SIGINT);
    events.end();
}

#[test]
fn ctrl_c_ends_the_run_where_told_to() {
    let server = patient();
    let cid = server.upload_guest("loop");
    let statuses = || {
        let runs = server.get("/v1/runs").json()["runs"].clone();
        runs.as_array().expect("a list").iter().map(|run| run["status"].to_string()).collect::<Vec<_>>()
    };
    for (args, words, status) in [
        (&["--wait", "--cancel-on-interrupt"][..], "is cancelled", "\"cancelled\""),
        (&["--wait"][..], "the run goes on", "\"running\""),
    ] {
        // The run may execute before the command has heard that it was accepted, and then it says so.
        let said = std::iter::repeat_with(|| {
            let before = statuses().len();
            let command = Started::new(&server, &[&["exec", &cid, "--entry", "forever"], args].concat());
            eventually("the run executes", Duration::from_secs(20), || {
                let now = statuses();
                now.len() > before && now[0] == "\"running\""
            });
            command.signal(Signal::SIGINT);
            command.end()
        })
        .take(5)
        .find(|said| !said.stderr.contains("whether the run was accepted is not known"))
        .expect("one is interrupted after its acceptance");
        assert_eq!((said.code, said.stdout.as_str()), (130, ""), "{said:?}");
        assert!(said.stderr.contains(words), "{said:?}");
        assert_eq!(statuses()[0], status);
    }
}

#[test]
fn a_service_that_dies_while_a_run_is_followed_is_unreachable() {
    let server = patient();
    let cid = server.upload_guest("loop");
    let command = Started::new(&server, &["exec", &cid, "--entry", "forever", "--wait"]);
    eventually("the run executes", Duration::from_secs(20), || {
        server.get("/v1/runs").json()["runs"][0]["status"] == "running"
    });
    let died = Instant::now();
    server.kill_and_expect_nothing_left(Duration::from_secs(10));
    let said = command.end();
    assert_eq!((said.code, said.stdout.as_str()), (69, ""), "{said:?}");
    assert!(said.stderr.contains("no accepted run is lost") && said.stderr.contains("--follow"), "{said:?}");
    assert!(died.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_is_too_large_is_refused_before_it_is_sent() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let mut child = void_wasm_command(&server, &["exec", &cid, "--stdin", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("void-wasm can be executed");
    let mut stdin = child.stdin.take().expect("a pipe");
    // Endless: it stops reading.
    while stdin.write_all(&[b'x'; 65536]).is_ok() {}
    let said = Said::from(child.wait_with_output().expect("its end"));
    assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{said:?}");
    assert!(said.stderr.contains("--stdin -: more than the 1048576 bytes"), "{said:?}");
    assert_eq!(server.metrics().sum("void_wasm_http_requests_total", &[("route", "exec")]), 0.0);
}

#[test]
fn odd_arguments_and_readers_get_a_clear_line_or_none() {
    let server = Server::start();
    // Not UTF-8.
    let mut command = void_wasm_command(&server, &["exec"]);
    command.arg(std::ffi::OsStr::from_bytes(b"no\xff\xfe.wasm"));
    let said = Said::from(command.output().expect("its end"));
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains(".wasm: cannot be read"), "{said:?}");
    let mut command = void_wasm_command(&server, &["exec", "bafkreiabc", "--label"]);
    command.arg(std::ffi::OsStr::from_bytes(b"a=\xff"));
    assert_eq!(Said::from(command.output().expect("its end")).code, 2);

    // A reader that has gone.
    let mut command = void_wasm_command(&server, &["completions", "bash"]).spawn().expect("started");
    drop(command.stdout.take());
    let said = Said::from(command.wait_with_output().expect("its end"));
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");

    // Letters that the terminal does not know, in what the service says.
    let cid = server.upload(&void_tests::wat(r#"(module (func (export "grün")))"#));
    let ascii =
        void_wasm_command(&server, &["exec", &cid, "--entry", "rot", "--wait"]).output().expect("its end");
    assert!(ascii.stderr.is_ascii() && !ascii.stderr.is_empty(), "{ascii:?}");
    let mut utf8 = void_wasm_command(&server, &["exec", &cid, "--entry", "rot", "--wait"]);
    assert!(Said::from(utf8.env("LC_ALL", "C.UTF-8").output().expect("its end")).stderr.contains("grün"));

    // Neither colour nor movement where nobody sees it.
    for args in [&["exec"][..], &["--help"], &["exec", &cid, "--entry", "rot", "--wait"]] {
        let said = void_wasm(&server, args);
        assert!(!said.stdout.contains('\x1b') && !said.stderr.contains('\x1b'), "{said:?}");
    }
}

#[test]
fn a_token_is_asked_for_by_name() {
    let tokens = EnvFile::new(&["anna anna-token-0123456789abcdef"]);
    let server = Server::builder().env("WASM_API_TOKENS_FILE", tokens.path()).start();
    let said = void_wasm(&server, &["runs"]);
    assert_eq!(said.code, 77, "{said:?}");
    assert!(said.stderr.contains("--token or VOID_WASM_TOKEN"), "{said:?}");
    assert_eq!(void_wasm(&server, &["runs", "--token", "anna-token-0123456789abcdef"]).code, 0);
    let mut command = void_wasm_command(&server, &["runs"]);
    assert_eq!(
        Said::from(command.env("VOID_WASM_TOKEN", "anna-token-0123456789abcdef").output().expect("its end"))
            .code,
        0
    );
}

#[test]
fn progress_is_shown_on_a_terminal_only_and_without_colour_where_none_is_wanted() {
    let server = patient();
    let cid = server.upload_guest("loop");
    let on_terminal = |line: &str, variables: &[(&str, &str)]| {
        // script(1) gives its command a terminal, and copies what that shows.
        let program =
            void_wasm_command(&server, &[]).get_program().to_str().expect("a plain path").to_owned();
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &format!("{program} {line}"), "/dev/null"]).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
        command
            .env("VOID_WASM_SERVER", format!("http://{}", server.address()))
            .envs(variables.iter().copied());
        Said::from(command.stdin(Stdio::null()).output().expect("script can be executed (package bsdutils)"))
    };
    let line = format!("exec {cid} --entry spin --arg 400000000 --wait");
    let said = on_terminal(&line, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    // The line that tells how it goes, taken back again, and the result.
    assert!(said.stdout.contains("wasm_") && said.stdout.contains("\x1b["), "{said:?}");
    let plain = void_wasm(&server, &["exec", &cid, "--entry", "spin", "--arg", "400000000", "--wait"]);
    assert_eq!((plain.code, plain.stderr.as_str()), (0, ""), "{plain:?}");
    assert!(said.stdout.contains(plain.stdout.trim()), "{said:?} {plain:?}");

    let coloured = "\x1b[1m";
    assert!(on_terminal("exec --nonsense", &[]).stdout.contains(coloured));
    let without = on_terminal("exec --nonsense", &[("NO_COLOR", "1")]);
    assert!(!without.stdout.contains(coloured) && without.code == 2, "{without:?}");
}
