//! One key, one run: of any number of simultaneous requests, and across a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use void_tests::{Client, Server};

const REQUESTS: usize = 200;
const ROUNDS: usize = 500;
/// Rounds that are asked once more after a kill.
const AGAIN: usize = 100;

fn request(cid: &str, key: &str, number: i32) -> Value {
    json!({"target": {"cid": cid}, "entry": "add", "args": [number, 3], "idempotency_key": key})
}

fn body(cid: &str, key: &str) -> Vec<u8> {
    request(cid, key, 2).to_string().into_bytes()
}

/// As many requests with one key as there are connections, sent together by `threads` threads.
fn all_at_once(connections: &mut [Client], body: &[u8]) -> Vec<Value> {
    const THREADS: usize = 8;
    let share = connections.len().div_ceil(THREADS);
    let together = Barrier::new(connections.len().div_ceil(share));
    thread::scope(|scope| {
        let threads: Vec<_> = connections
            .chunks_mut(share)
            .map(|own| {
                let together = &together;
                scope.spawn(move || {
                    together.wait();
                    for client in own.iter_mut() {
                        client.send_request("POST", "/v1/exec", &[], body).expect("sent");
                    }
                    let read = |client: &mut Client| {
                        let answer = client.read_response().expect("an answer");
                        assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
                        let answered = answer.json();
                        assert_eq!(answer.status == 200, answered["mode"] == "cached", "{answered}");
                        answered
                    };
                    own.iter_mut().map(read).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    })
}

#[test]
fn of_200_simultaneous_requests_one_makes_a_run() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let mut connections: Vec<_> = (0..REQUESTS).map(|_| server.connect()).collect();
    let begin = Instant::now();
    let mut runs = Vec::new();
    for round in 0..ROUNDS {
        let answers = all_at_once(&mut connections, &body(&cid, &format!("key {round}")));
        let ids: BTreeSet<_> = answers.iter().map(|answer| answer["run_id"].to_string()).collect();
        let new = answers.iter().filter(|answer| answer["mode"] == "live").count();
        assert_eq!((ids.len(), new), (1, 1), "round {round}: {ids:?}");
        runs.extend(ids);
    }
    eprintln!("{ROUNDS} rounds of {REQUESTS} requests in {:?}", begin.elapsed());
    drop(connections);
    let server = server.restart();
    let mut connections: Vec<_> = (0..REQUESTS).map(|_| server.connect()).collect();
    for (round, id) in runs.iter().enumerate().step_by(ROUNDS / AGAIN) {
        for answer in all_at_once(&mut connections, &body(&cid, &format!("key {round}"))) {
            assert_eq!((answer["run_id"].to_string(), &answer["mode"]), (id.clone(), &json!("cached")));
        }
    }
    let mut listed = 0;
    let mut cursor = String::new();
    loop {
        let page = server.get(&format!("/v1/runs?limit=500{cursor}")).json();
        listed += page["runs"].as_array().expect("a list").len();
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(listed, ROUNDS, "runs beside those that were told of");
}

#[test]
fn a_key_is_known_after_a_restart_and_also_before_its_run_is_over() {
    let mut server = Server::builder().env("WASM_CPU_MS_BUDGET", "20000").start();
    let cid = server.upload_guest("add");
    let first: Vec<String> =
        (0..20).map(|n| server.exec(request(&cid, &format!("k{n}"), 2)).wait().id().to_owned()).collect();
    server = server.restart();
    for (n, id) in first.iter().enumerate() {
        let mut connections: Vec<_> = (0..20).map(|_| server.connect()).collect();
        for answer in all_at_once(&mut connections, &body(&cid, &format!("k{n}"))) {
            assert_eq!((&answer["run_id"], &answer["mode"]), (&json!(id), &json!("cached")));
        }
        let other = server.exec(request(&cid, &format!("k{n}"), 9)).send();
        assert_eq!((other.status, other.problem().as_str()), (422, "idempotency_mismatch"));
        assert_eq!(other.json()["run_id"], json!(id));
    }
    // A run that was refused leaves no key behind.
    let refused = server.exec(json!({"target": {"cid": cid}, "entry": "add(i32)", "args": [1, 2],
        "idempotency_key": "refused"}));
    assert_eq!(refused.send().status, 422);
    assert_eq!(server.exec(request(&cid, "refused", 2)).wait().result(), &json!(5));
}

#[test]
fn the_header_and_the_field_are_one_key() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let by_header = json!({"target": {"cid": cid}, "entry": "add", "args": [2, 3]});
    let first = server.exec(by_header).header("Idempotency-Key", "one").send().json();
    let second = server.exec(request(&cid, "one", 2)).header("Idempotency-Key", "one").send();
    assert_eq!((second.status, &second.json()["run_id"]), (200, &first["run_id"]));
    let differ = server.exec(request(&cid, "one", 2)).header("Idempotency-Key", "two").send();
    assert_eq!((differ.status, differ.problem().as_str()), (400, "idempotency_conflict"));
    let longest = "k".repeat(255);
    assert_eq!(server.exec(request(&cid, &longest, 2)).send().status, 202);
    let longer = server.exec(request(&cid, &format!("{longest}k"), 2)).send();
    assert!(matches!(longer.status, 400 | 422), "{}", longer.text());
}

#[test]
fn no_end_is_lost_when_the_first_of_many_hangs_up() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    for round in 0..50 {
        let body = body(&cid, &format!("hung {round}"));
        let mut gone = server.connect();
        gone.send_request("POST", "/v1/exec", &[("Prefer", "wait=10")], &body).expect("sent");
        drop(gone);
        let answer = server.exec_raw(body).send();
        assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
        let id = answer.json()["run_id"].as_str().expect("an id").to_owned();
        assert_eq!(server.wait_for(&id).result(), &json!(5));
    }
}

#[test]
fn a_run_that_can_begin_at_once_is_stored_in_two_steps() {
    // With its beginning, or a crash would let it begin twice, and with its end.
    const RUNS: u32 = 50;
    let server = Server::start();
    let cid = server.upload_guest("add");
    server.run(&cid, "add", json!([2, 3])).result();
    let mut client = server.connect();
    let commits = || server.metrics().sum("void_wasm_store_commits_total", &[]);
    for prefer in ["wait=20", "respond-async"] {
        let before = commits();
        for number in 0..RUNS {
            let body = body(&cid, &format!("{prefer} {number}"));
            let answer = client.request("POST", "/v1/exec", &[("Prefer", prefer)], &body).expect("an answer");
            server.wait_for(answer.json()["run_id"].as_str().expect("an id")).result();
        }
        let commits = commits() - before;
        // A run that has to wait for its process on a busy machine takes three.
        let range = f64::from(2 * RUNS)..=f64::from(2 * RUNS + RUNS / 2);
        assert!(range.contains(&commits), "{prefer}: {commits} commits for {RUNS} runs");
    }
}
