//! Cancelling: a guest is gone within 100 ms, wherever its run is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use void_tests::{Process, Response, Server, eventually, eventually_some};

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
        let usage = &answer.json()["usage"];
        assert!(usage["cpu_ms"].as_u64() <= usage["wall_ms"].as_u64(), "more CPU time than went by: {usage}");
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

/// A server with one place to run in, whose zygotes of the module `cid` have been stopped by the kernel.
fn with_stopped_zygotes() -> (Server, String, Vec<Process>) {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "20000").env("WASM_WORKERS", "1").start();
    let cid = server.upload_guest("loop");
    server.run_on_each_lane(&cid, "answer");
    let zygotes = server.processes("void-zygote");
    (server, cid, zygotes)
}

fn signal_all(processes: &[Process], signal: Signal) {
    processes.iter().for_each(|process| process.signal(signal));
}

#[test]
fn a_run_whose_process_is_not_forked_yet_is_cancelled_at_once_and_never_begins() {
    let (server, cid, zygotes) = with_stopped_zygotes();
    let other = server.upload_guest("add");
    signal_all(&zygotes, Signal::SIGSTOP);
    eventually("they have stopped", SOON, || zygotes.iter().all(|zygote| !zygote.is_running()));
    // What was forked ahead is gone, so that a run has to wait for a fork that does not come.
    let spares = server.processes("void-run");
    spares.iter().for_each(Process::kill);
    eventually("no spare is left", SOON, || spares.iter().all(|process| !process.lives()));
    for _ in 0..3 {
        let id = server.exec(json!({"target": {"cid": cid}, "entry": "forever"})).start();
        assert_eq!(server.look_up(&id).status(), "accepted");
        let begin = Instant::now();
        let answer = cancel(&server, &id);
        assert_eq!(answer.json()["status"], "cancelled", "{}", answer.text());
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        assert!(answer.json()["started_at"].is_null(), "{}", answer.text());
        // The one place is free again, although the zygote still does not move.
        assert_eq!(server.run(&other, "add", json!([2, 3])).result(), &json!(5));
    }
    signal_all(&zygotes, Signal::SIGCONT);
    // The forks that were ordered come now, and find nobody: no guest computes.
    server.run(&cid, "answer", json!([])).result();
    eventually("what was forked for nobody is gone", SOON, || {
        server.processes("void-run").iter().all(|process| process.cpu_ticks() < 5)
    });
    assert_eq!(server.metrics().sum("void_wasm_runs_total", &[("status", "cancelled")]), 3.0);
}

#[test]
fn a_running_guest_is_gone_at_once_although_its_zygote_does_not_notice() {
    let (server, cid, zygotes) = with_stopped_zygotes();
    let other = server.upload_guest("add");
    let id = server.exec(json!({"target": {"cid": cid}, "entry": "forever"})).start();
    let process = eventually_some("it computes", SOON, || {
        server.processes("void-run").into_iter().find(|process| process.cpu_ticks() >= 2)
    });
    signal_all(&zygotes, Signal::SIGSTOP);
    eventually("they have stopped", SOON, || zygotes.iter().all(|zygote| !zygote.is_running()));
    let begin = Instant::now();
    let answer = cancel(&server, &id);
    assert_eq!(answer.json()["status"], "cancelled", "{}", answer.text());
    assert!(!process.lives());
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(server.run(&other, "add", json!([2, 3])).result(), &json!(5), "its place is not free");
    signal_all(&zygotes, Signal::SIGCONT);
}
