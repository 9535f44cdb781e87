//! `void-wasm exec`: what is sent, what is printed, and how it ends.

#![forbid(unsafe_code)]

mod support;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use support::{CID, RUN, Reply, Service, accepted, finish, ok, problem, record, void_wasm};

#[test]
fn the_result_is_all_that_stdout_has() {
    let service = Service::replying([
        accepted("live"),
        ok(record("running", r#""result":null"#)),
        ok(record("finished", r#""result":5"#)),
    ]);
    let line = format!("exec {CID} --entry add(i32,i32)->i32 --i32 2 --i32 3 --label env=test --wait");
    assert_eq!(service.run(&line), (0, "5\n".into(), String::new()));
    let sent = service.next();
    assert_eq!(sent.line, "POST /v1/exec");
    assert_eq!(
        sent.body,
        format!(
            r#"{{"target":{{"cid":"{CID}"}},"entry":"add(i32,i32)->i32","args":[2,3],"labels":{{"env":"test"}}}}"#
        )
    );
    assert_eq!(service.next().line, format!("GET /v1/runs/{RUN}?wait=30"));
    assert_eq!(service.next().line, format!("GET /v1/runs/{RUN}?wait=30"));
}

#[test]
fn without_wait_the_run_is_named() {
    let service = Service::replying([accepted("canary")]);
    assert_eq!(service.run(&format!("exec {CID}")), (0, format!("{RUN}\n"), String::new()));
    assert_eq!(service.next().body, format!(r#"{{"target":{{"cid":"{CID}"}}}}"#));
}

#[test]
fn json_is_what_the_service_said() {
    let said = record("finished", r#""result":"9223372036854775807","new_field":1"#);
    let service = Service::replying([accepted("live"), ok(said.clone())]);
    assert_eq!(service.run(&format!("--json exec {CID} --wait")), (0, said + "\n", String::new()));
    let service = Service::replying([problem(429, "queue_full", "")]);
    let (code, stdout, stderr) = service.run(&format!("exec {CID} --json"));
    assert_eq!((code, stdout.as_str()), (75, ""));
    assert!(stderr.starts_with("{\"type\":\"urn:void-wasm:problem:queue_full\""), "{stderr}");
}

#[test]
fn a_file_is_uploaded_and_a_command_s_streams_are_copied() {
    let module =
        format!(r#"{{"cid":"{CID}","sha256":"0","size":4,"kind":"command","exports":[],"imports":[]}}"#);
    let ended = r#""result":null,"reason":"exit","error":"exit code 3","stdout":"out","stderr":"err\u001b[2J\n","exit_code":3"#;
    let service =
        Service::replying([Reply::Json(201, "", module), accepted("live"), ok(record("error", ended))]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tool.wasm"), "\0asm").unwrap();
    let mut command = service.command("exec tool.wasm --wait");
    command.args(["--env", "A=b c", "--", "-x", "--wait"]).current_dir(folder.path());
    let (code, stdout, stderr) = finish(command);
    assert_eq!((code, stdout.as_str()), (1, "out"));
    assert_eq!(stderr, format!("err\u{1b}[2J\nvoid-wasm: {RUN} ended in error, exit: exit code 3\n"));
    let upload = service.next();
    assert_eq!((upload.line.as_str(), upload.body.as_str()), ("PUT /v1/modules", "\0asm"));
    assert!(upload.head.contains("content-type: application/wasm"));
    assert_eq!(
        service.next().body,
        format!(r#"{{"target":{{"cid":"{CID}"}},"argv":["tool","-x","--wait"],"env":{{"A":"b c"}}}}"#)
    );
}

#[test]
fn a_digest_is_an_ast_hash_and_else_the_bytes() {
    let digest = format!("sha256:{}", "0e".repeat(32));
    let not_found = |what: &str| {
        let end = format!(
            r#""result":null,"reason":"module_not_found","error":"no source has {what} (somewhere)""#
        );
        ok(record("error", &end))
    };
    let unknown = || not_found(&format!("AST hash {digest}"));
    let service = Service::replying([
        accepted("live"),
        unknown(),
        accepted("live"),
        ok(record("finished", r#""result":6.28"#)),
    ]);
    let line = format!("exec {digest} --entry multiply --f64 3.14 --f64 2.0 --idempotency-key k --wait");
    assert_eq!(service.run(&line), (0, "6.28\n".into(), String::new()));
    let sent = service.next().body;
    assert!(
        sent.contains(&format!(r#"{{"ast_hash":"{digest}"}}"#)) && sent.contains(r#""idempotency_key":"k""#),
        "{sent}"
    );
    service.next();
    let sent = service.next().body;
    assert!(
        sent.contains(&format!(r#"{{"sha256":"{digest}"}}"#))
            && sent.contains(r#""idempotency_key":"k#bytes""#),
        "{sent}"
    );
    assert!(sent.contains(r#""args":[3.14,2.0]"#), "{sent}");

    let service = Service::replying([accepted("live"), unknown(), accepted("live"), unknown()]);
    let (code, stdout, stderr) = service.run(&format!("exec {digest} --wait"));
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("module_not_found") && stderr.contains("modules push"), "{stderr}");

    // A manifest lists it: it is the module's bytes that nobody has.
    let service = Service::replying([accepted("live"), not_found(CID)]);
    let (code, _, stderr) = service.run(&format!("exec {digest} --wait"));
    assert!(code == 1 && stderr.contains(CID), "{stderr}");

    let service = Service::replying([accepted("live"), ok(record("running", r#""result":null"#))]);
    assert_eq!(service.run(&format!("exec {digest}")), (0, format!("{RUN}\n"), String::new()));
    service.next();
    assert_eq!(service.next().line, format!("GET /v1/runs/{RUN}?wait=2"));
}

#[test]
fn every_outcome_has_its_exit_code() {
    for (reply, code, words) in [
        (
            problem(503, "disabled", "retry-after: 60\r\n"),
            75,
            "not now: disabled: do this (try again in 60 s)",
        ),
        (problem(429, "queue_full", ""), 75, "queue_full"),
        (problem(401, "unauthorized", ""), 77, "VOID_WASM_TOKEN"),
        (problem(422, "invalid_args", ""), 77, "refused: invalid_args: do this"),
        (problem(413, "payload_too_large", ""), 77, "payload_too_large"),
        (problem(500, "internal", ""), 69, "its log says more"),
        (ok("<html>"), 69, "check that it is a void-wasm service"),
        (Reply::Json(404, "", "not found".into()), 69, "check --server"),
        (Reply::Json(503, "retry-after: 7\r\n", "<html>".into()), 75, "try again in 7 s"),
        (Reply::Json(502, "", "<html>".into()), 69, "the service behind it does not answer"),
        (Reply::Json(504, "", "<html>".into()), 69, "the service behind it does not answer"),
        (Reply::Json(403, "", "<html>".into()), 77, "VOID_WASM_TOKEN"),
        (Reply::BreakOff, 69, "--idempotency-key"),
    ] {
        let service = Service::replying([reply]);
        let (found, stdout, stderr) = service.run(&format!("exec {CID} --wait"));
        assert_eq!((found, stdout.as_str()), (code, ""), "{stderr}");
        assert!(stderr.contains(words) && stderr.lines().count() == 1, "{stderr}");
    }
    for (status, code) in [("finished", 0), ("error", 1), ("cancelled", 1), ("frozen", 1)] {
        let service = Service::replying([accepted("live"), ok(record(status, r#""result":null"#))]);
        assert_eq!(service.run(&format!("exec {CID} --wait")).0, code, "{status}");
    }
    let (code, _, stderr) = finish(void_wasm(&format!("exec {CID} --server http://127.0.0.1:1")));
    assert_eq!(code, 69);
    assert!(stderr.contains("nothing listens at http://127.0.0.1:1: start the service"), "{stderr}");
    let (code, _, stderr) = finish(void_wasm(&format!("exec {CID} --server unix:/nowhere/s.sock")));
    assert_eq!(code, 69);
    assert!(stderr.contains("no such socket"), "{stderr}");
}

#[test]
fn a_freeze_and_a_dry_run_are_said_to_be_so() {
    let frozen = format!(r#"{{"run_id":"{RUN}","accepted":true,"mode":"frozen","warning":"it is frozen"}}"#);
    let service = Service::replying([Reply::Json(202, "", frozen.clone())]);
    assert_eq!(
        service.run(&format!("exec {CID}")),
        (0, format!("{RUN}\n"), "void-wasm: it is frozen\n".into())
    );
    let service = Service::replying([Reply::Json(202, "", frozen), ok(record("frozen", r#""result":null"#))]);
    let (code, stdout, stderr) = service.run(&format!("exec {CID} --wait"));
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("will never execute: send it again after the thaw"), "{stderr}");
    let dry =
        record("finished", r#""result":{"dry_run":true}"#).replace(r#""mode":"live""#, r#""mode":"dry-run""#);
    let service = Service::replying([accepted("dry-run"), ok(dry)]);
    let (code, stdout, stderr) = service.run(&format!("exec {CID} --wait"));
    assert_eq!((code, stdout.as_str()), (0, "{\"dry_run\":true}\n"));
    assert!(stderr.contains("not executed") && stderr.contains("WASM_EXEC_CANARY"), "{stderr}");
}

#[test]
fn wrong_usage_is_told_before_anything_is_sent() {
    let service = Service::replying([]);
    let digest = "sha256:12";
    for (line, words) in [
        (format!("exec {CID} --i32 2147483648"), "--i32"),
        (format!("exec {CID} --i32 2.5"), "--i32"),
        (format!("exec {CID} --labels {{"), "--labels: not a JSON object of strings"),
        (format!("exec {CID} --labels {{\"a\":1}}"), "--labels: not a JSON object of strings"),
        (format!("exec {CID} --label novalue"), "give a key, an equals sign and a value"),
        (format!("exec {CID} --arg nope"), "--arg nope: not JSON"),
        (format!("exec {CID} --stdin /nowhere"), "/nowhere: cannot be read for --stdin"),
        (format!("exec {CID} --stdin /dev/zero"), "more than the 1048576 bytes"),
        (format!("exec {CID} --cancel-on-interrupt"), "--wait"),
        (format!("exec {digest}"), "64 hex digits"),
        ("exec not/there.wasm".to_owned(), "not/there.wasm: cannot be read"),
        ("exec what?".to_owned(), "neither a CID"),
        ("exec".to_owned(), "<TARGET>"),
        ("exec a --nonsense".to_owned(), "--nonsense"),
        (format!("exec {CID} --server ftp://x"), "http://HOST:PORT"),
        (format!("runs {RUN} --follow --limit 3"), "--limit"),
        ("runs wasm_1".to_owned(), "26 characters"),
        ("cancel nonsense".to_owned(), "26 characters"),
    ] {
        let (code, stdout, stderr) = service.run(&line);
        assert_eq!((code, stdout.as_str()), (2, ""), "{line}: {stderr}");
        assert!(stderr.contains(words), "{line}: {stderr}");
    }
    assert!(service.is_idle());
}

#[test]
fn standard_input_is_sent_or_refused_with_a_clear_line() {
    let feed = |bytes: &'static [u8]| {
        let service = Service::replying([accepted("live")]);
        let mut command = service.command(&format!("exec {CID} --stdin -"));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The command may stop reading early.
        let _ = child.stdin.take().unwrap().write_all(bytes);
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap(), service)
    };
    let (code, _, service) = feed("grüße\n".as_bytes());
    assert_eq!(code, 0);
    assert!(service.next().body.contains(r#""stdin":"grüße\n""#));
    let (code, stderr, _) = feed(b"ab\xff");
    assert_eq!(code, 2);
    assert!(stderr.contains("byte 2 is not UTF-8"), "{stderr}");
}

#[test]
fn a_service_that_dies_meanwhile_is_asked_again() {
    let service = Service::replying([
        accepted("live"),
        Reply::BreakOff,
        problem(503, "draining", "retry-after: 1\r\n"),
        ok(record("finished", r#""result":[1,"2"]"#)),
    ]);
    assert_eq!(service.run(&format!("exec {CID} --wait")), (0, "[1,\"2\"]\n".into(), String::new()));
}

#[test]
fn ctrl_c_asks_the_service_to_cancel_where_told_to() {
    for (flag, words, cancels) in
        [("--cancel-on-interrupt", "is cancelled", true), ("--wait", "the run goes on", false)]
    {
        let service =
            Service::replying([accepted("live"), Reply::Hang, ok(record("cancelled", r#""result":null"#))]);
        let mut command = service.command(&format!("exec {CID} {}", if cancels { "--wait" } else { "" }));
        let child = command.arg(flag).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        service.next();
        // The command is waiting now, and listens to Ctrl-C from before it asked.
        assert!(service.next().line.starts_with("GET /v1/runs/"));
        let kill = format!("kill -INT {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        assert!(stderr.contains(words) && output.stdout.is_empty(), "{stderr}");
        if cancels {
            assert_eq!(service.next().line, format!("POST /v1/runs/{RUN}/cancel"));
        } else {
            assert!(service.is_idle());
        }
    }
}

#[test]
fn the_token_is_sent_and_not_shown() {
    let service = Service::replying([accepted("live")]);
    let mut command = service.command(&format!("exec {CID}"));
    command.env("VOID_WASM_TOKEN", "secret-1");
    assert_eq!(finish(command).0, 0);
    assert!(service.next().head.contains("authorization: Bearer secret-1\r\n"));
    let mut help = void_wasm("exec --help");
    help.env("VOID_WASM_TOKEN", "secret-1");
    let (code, stdout, _) = finish(help);
    assert_eq!(code, 0);
    assert!(!stdout.contains("secret-1"));
}
