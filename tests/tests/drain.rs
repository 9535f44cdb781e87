//! SIGTERM: nothing new, what runs ends and is told, exit 0. A second one ends at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use void_tests::{Client, Events, Server, eventually};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_drain_under_load_answers_all_that_it_took() {
    let server = Server::start();
    let cid = server.upload_guest("loop");
    let body = json!({"target": {"cid": cid}, "entry": "spin", "args": [2_000_000]}).to_string();
    let told = Mutex::new(BTreeSet::new());
    let status = thread::scope(|scope| {
        for client in 0..8 {
            let (server, body, told) = (&server, &body, &told);
            scope.spawn(move || {
                let prefer = if client % 2 == 0 { "wait=60" } else { "respond-async" };
                let Ok(mut connection) = Client::connect(server.address()) else { return };
                loop {
                    let sent =
                        connection.send_request("POST", "/v1/exec", &[("Prefer", prefer)], body.as_bytes());
                    // An end between two requests is not one of a request that was taken.
                    let Ok(answer) = sent.and_then(|()| connection.read_response()) else { return };
                    match answer.status {
                        200 | 202 => {
                            let id = answer.json()["run_id"].as_str().expect("an id").to_owned();
                            told.lock().unwrap().insert(id);
                        }
                        429 => {}
                        _ => {
                            assert_eq!((answer.status, answer.problem().as_str()), (503, "draining"));
                            return;
                        }
                    }
                }
            });
        }
        eventually("the load is on", SOON, || told.lock().unwrap().len() > 200);
        server.signal(Signal::SIGTERM);
        server.wait_for_exit()
    });
    assert_eq!(status.code(), Some(0), "{}", server.log());
    server.logs(&["draining"]);
    server.logs(&["drained"]);
    let server = server.restart();
    let told = told.into_inner().unwrap();
    for id in &told {
        // Ended before the exit: nothing is left to be done, and nothing was cut off.
        assert_eq!(server.look_up(id).status(), "finished", "{}", server.look_up(id).record());
    }
    eprintln!("{} runs, all finished", told.len());
}

#[test]
fn a_second_signal_ends_at_once() {
    for second in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Server::builder().env("WASM_CPU_MS_BUDGET", "20000").start();
        let cid = server.upload_guest("loop");
        let id = server.exec(json!({"target": {"cid": cid}, "entry": "forever"})).start();
        eventually("it runs", SOON, || server.look_up(&id).status() == "running");
        let family = server.process().descendants();
        server.signal(Signal::SIGTERM);
        server.logs(&["draining"]);
        assert!(server.process().lives(), "it did not wait for what runs");
        let begin = Instant::now();
        server.signal(second);
        let status = server.wait_for_exit();
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        assert!(status.code().is_some(), "{status}");
        eventually("its processes end with it", SOON, || family.iter().all(|process| !process.lives()));
        let server = server.restart();
        server.wait_for(&id).failed_with("interrupted");
    }
}

#[test]
fn streams_and_idle_connections_do_not_hold_a_drain_up() {
    let server = Server::start();
    let mut idle = server.connect();
    assert_eq!(idle.request("GET", "/health", &[], &[]).expect("an answer").status, 200);
    let stream = Events::follow(&server, "", None);
    server.signal(Signal::SIGTERM);
    let begin = Instant::now();
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(idle.is_closed_by_server() && stream.ends(SOON));
}
