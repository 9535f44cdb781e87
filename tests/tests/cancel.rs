//! Cancelling: a guest is gone within 100 ms, wherever its run is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::time::{Duration, Instant};

use serde_json::json;
use void_tests::{Response, Server, eventually, eventually_some};

const SOON: Duration = Duration::from_secs(10);

fn cancel(server: &Server, id: &str) -> Response {
    server.request("POST", &format!("/v1/runs/{id}/cancel"), &[], &[])
}

fn patient() -> Server {
    Server::builder().env("WASM_CPU_MS_BUDGET", "20000").env("WASM_WORKERS", "2").start()
}

#[test]
fn a_running_guest_is_gone_within_100_ms() {
    let server = patient();
    let cid = server.upload_guest("loop");
    let mut times = Vec::new();
    for _ in 0..20 {
        let id = server.exec(json!({"target": {"cid": cid}, "entry": "forever"})).start();
        let process = eventually_some("it computes", SOON, || {
            server.processes("void-run").into_iter().find(|process| process.cpu_ticks() >= 2)
        });
        let begin = Instant::now();
        let answer = cancel(&server, &id);
        let took = begin.elapsed();
        assert!(!process.lives(), "the record says that it is cancelled, and it lives");
        assert_eq!(
            (answer.status, &answer.json()["status"]),
            (200, &json!("cancelled")),
            "{}",
            answer.text()
        );
        assert_eq!(server.look_up(&id).record(), &answer.json());
        let again = cancel(&server, &id);
        assert_eq!((again.status, again.problem().as_str()), (409, "already_ended"));
        times.push(took);
    }
    times.sort_unstable();
    eprintln!("cancelled within {times:?}");
    // The machine may be busy with other tests: the middle one tells what the service does.
    assert!(times[10] < Duration::from_millis(100), "{times:?}");
}

#[test]
fn what_waits_is_cancelled_and_what_has_ended_is_not() {
    let server = patient();
    let cid = server.upload_guest("loop");
    let start = |entry: &str| server.exec(json!({"target": {"cid": cid}, "entry": entry})).start();
    let running = [start("forever"), start("forever")];
    let waiting = start("answer");
    let answer = cancel(&server, &waiting);
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("cancelled")), "{}", answer.text());
    assert!(answer.json()["started_at"].is_null(), "{}", answer.text());
    for id in &running {
        assert_eq!(cancel(&server, id).status, 200);
    }
    let finished = start("answer");
    server.wait_for(&finished).result();
    assert_eq!(
        (cancel(&server, &finished).status, cancel(&server, &finished).problem()),
        (409, "already_ended".into())
    );
    let unknown = cancel(&server, "wasm_01jd0000000000000000000000");
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "run_not_found"));
    // While it is compiled.
    let slow = server.upload(&void_tests::slow_to_compile_module(12 << 10));
    let id = server.exec(json!({"target": {"cid": slow}, "entry": "run", "args": [1, 2]})).start();
    eventually("it is compiled", SOON, || !server.processes("void-compiler").is_empty());
    assert_eq!(cancel(&server, &id).json()["status"], "cancelled");
    assert_eq!(server.metrics().sum("void_wasm_runs_total", &[("status", "cancelled")]), 4.0);
}

#[test]
fn a_client_that_hangs_up_before_it_was_told_anything_ends_its_run() {
    let server = patient();
    let cid = server.upload_guest("loop");
    for _ in 0..5 {
        let mut client = server.connect();
        let body = json!({"target": {"cid": cid}, "entry": "forever"}).to_string();
        client.send_request("POST", "/v1/exec", &[("Prefer", "wait=60")], body.as_bytes()).expect("sent");
        let process = eventually_some("it computes", SOON, || {
            server.processes("void-run").into_iter().find(|process| process.cpu_ticks() >= 2)
        });
        drop(client);
        eventually("it ends with its client", SOON, || !process.lives());
    }
}
