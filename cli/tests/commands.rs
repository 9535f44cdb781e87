//! The commands beside `exec`, and the ways in which output and connection can be odd.

#![forbid(unsafe_code)]

mod support;

use std::collections::VecDeque;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;

use support::{CID, RUN, Reply, Service, finish, ok, problem, record, serve, void_wasm};

#[test]
fn runs_are_a_table() {
    let list = format!(r#"{{"runs":[{}],"next_cursor":"c 1"}}"#, record("finished", r#""result":5"#));
    let service = Service::replying([ok(list.clone()), ok(list.clone())]);
    let (code, stdout, stderr) =
        service.run("runs --status finished --mode dry-run --label team=a&b --limit 3 --cursor x/y");
    assert_eq!((code, stderr.as_str()), (0, ""));
    let rows: Vec<Vec<&str>> = stdout
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect())
        .collect();
    assert_eq!(rows[0], ["RUN", "STATUS", "MODE", "CREATED", "CPU MS", "ENTRY", "RESULT"]);
    assert_eq!(rows[1], [RUN, "finished", "live", "2025-01-31T12:34:56.789Z", "1", "add", "5"]);
    assert_eq!(
        service.next().line,
        "GET /v1/runs?limit=3&status=finished&mode=dry-run&label=team:a%26b&cursor=x%2Fy"
    );
    assert_eq!(service.run("runs --json").1, list + "\n");
}

#[test]
fn one_run_is_shown_or_followed() {
    let service = Service::replying([
        ok(record("finished", r#""result":5"#)),
        ok(record("error", r#""result":null,"reason":"cpu_budget""#)),
    ]);
    let (code, stdout, _) = service.run(&format!("runs {RUN}"));
    assert_eq!(code, 0);
    assert!(stdout.contains("result   5\n") && stdout.contains("usage    1 ms CPU, 2 ms in all"), "{stdout}");
    let (code, stdout, stderr) = service.run(&format!("runs {RUN} --follow"));
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("cpu_budget"), "{stderr}");
    assert_eq!(service.next().line, format!("GET /v1/runs/{RUN}"));
    assert_eq!(service.next().line, format!("GET /v1/runs/{RUN}?wait=30"));
    let service = Service::replying([problem(404, "run_not_found", "")]);
    let (code, _, stderr) = service.run(&format!("runs {RUN}"));
    assert_eq!(code, 77);
    assert!(stderr.contains("`void-wasm runs` lists"), "{stderr}");
}

#[test]
fn cancel_says_where_the_run_stands() {
    let service =
        Service::replying([ok(record("cancelled", r#""result":null"#)), problem(409, "already_ended", "")]);
    assert_eq!(service.run(&format!("cancel {RUN}")), (0, format!("{RUN} cancelled\n"), String::new()));
    assert_eq!(service.next().line, format!("POST /v1/runs/{RUN}/cancel"));
    assert_eq!(service.run(&format!("cancel {RUN}")).0, 77);
}

#[test]
fn modules_are_pushed_and_shown() {
    let info = format!(
        r#"{{"cid":"{CID}","sha256":"00","size":4,"kind":"module","exports":[{{"name":"add\u001b","kind":"func","type":"(i32, i32) -> (i32)"}}],"imports":[{{"module":"void","name":"emit","kind":"func","type":"(i32) -> ()"}}]}}"#
    );
    let service = Service::replying([Reply::Json(201, "", info.clone()), ok(info)]);
    let file = tempfile::NamedTempFile::with_suffix(".wasm").unwrap();
    let (code, stdout, _) = service.run(&format!("modules push {}", file.path().display()));
    assert_eq!((code, stdout), (0, format!("{CID}\n")));
    let (code, stdout, _) = service.run(&format!("modules show {CID}"));
    assert_eq!(code, 0);
    assert!(stdout.contains("export  func add  (i32, i32) -> (i32)\n"), "{stdout}");
    assert!(stdout.contains("import  func void.emit (i32) -> ()\n"), "{stdout}");
    service.next();
    assert_eq!(service.next().line, format!("GET /v1/modules/{CID}"));
}

#[test]
fn events_go_on_after_a_break_without_a_gap() {
    let event = |id: u32| format!("id: {id}\ndata: {{\"type\":\"wasm.exec.started\",\"id\":\"{id}\"}}\n\n");
    let service = Service::replying([
        Reply::Json(200, "content-type: text/event-stream\r\nconnection: close\r\n", event(1) + &event(2)),
        Reply::Json(200, "content-type: text/event-stream\r\nconnection: close\r\n", event(3)),
        problem(401, "unauthorized", ""),
    ]);
    let (code, stdout, _) =
        service.run(&format!("events --json --type wasm.exec.started --run-id {RUN} --after 0"));
    assert_eq!(code, 77);
    let ids: Vec<&str> = stdout.lines().map(|line| &line[line.len() - 3..]).collect();
    assert_eq!(ids, ["1\"}", "2\"}", "3\"}"], "{stdout}");
    let first = service.next();
    assert_eq!(first.line, format!("GET /v1/events?type=wasm.exec.started&run_id={RUN}"));
    assert!(first.head.contains("last-event-id: 0\r\n"));
    assert!(service.next().head.contains("last-event-id: 2\r\n"));
    assert!(service.next().head.contains("last-event-id: 3\r\n"));
}

#[test]
fn policy_and_status_speak_of_the_service() {
    let service = Service::replying([ok(r#"{"exec":{"enabled":true,"canary":0.05},"caps":["emit"]}"#)]);
    assert_eq!(service.run("policy").1, "caps          emit\nexec.canary   0.05\nexec.enabled  true\n");
    let service = Service::replying([ok("{}"), ok("{}"), ok("{}"), problem(503, "disabled", "")]);
    assert_eq!(service.run("status"), (0, "ready\n".into(), String::new()));
    assert_eq!(service.run("status"), (75, "not ready\n".into(), "void-wasm: do this\n".into()));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let many = vec![record("finished", r#""result":5"#); 5000].join(",");
    let service = Service::replying([ok(format!(r#"{{"runs":[{many}]}}"#))]);
    let mut child = service.command("runs").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_unix_socket_is_a_server_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, received) = channel();
    thread::spawn(move || {
        let replies = Mutex::new(VecDeque::from([ok("{}"), ok("{}")]));
        let (stream, _) = listener.accept().unwrap();
        serve(stream.try_clone().unwrap(), stream, &replies, &sender);
    });
    let (code, stdout, stderr) = finish(void_wasm(&format!("status --server unix:{}", path.display())));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "ready\n", ""));
    assert_eq!(received.recv().unwrap().line, "GET /health");
}

#[test]
fn completions_and_pages_are_made_from_the_definition() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = finish(void_wasm(&format!("completions {shell}")));
        assert_eq!(code, 0);
        assert!(script.contains("idempotency-key"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(finish(void_wasm(&format!("man {}", folder.path().display()))).0, 0);
    assert!(folder.path().join("void-wasm.1").is_file() && folder.path().join("void-wasm-exec.1").is_file());
    assert_eq!(finish(void_wasm("man /nowhere/at/all")).0, 2);
}
