//! The share of runs that execute: how many, always the same ones, and what the others do instead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::json;
use void_tests::{EnvFile, Server, eventually, guest};

const KEYS: usize = 20_000;
/// Room for all that these tests ask for: none is refused.
const QUEUE: &str = "50000";

/// Asks for a run under each key, pipelined, and gives the modes.
fn modes(server: &Server, cid: &str, prefix: &str, keys: usize) -> Vec<String> {
    const LANES: usize = 4;
    const BREATH: usize = 100;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..LANES)
            .map(|lane| {
                scope.spawn(move || {
                    let mut connection = server.connect();
                    let own: Vec<usize> = (lane * keys / LANES..(lane + 1) * keys / LANES).collect();
                    let mut modes = Vec::with_capacity(own.len());
                    for breath in own.chunks(BREATH) {
                        for number in breath {
                            let request = json!({"target": {"cid": cid}, "entry": "answer",
                                "idempotency_key": format!("{prefix}{number}")});
                            let body = request.to_string();
                            connection.send_request("POST", "/v1/exec", &[], body.as_bytes()).expect("sent");
                        }
                        for _ in breath {
                            let answer = connection.read_response().expect("an answer");
                            assert_eq!(answer.status, 202, "{}", answer.text());
                            modes.push(answer.json()["mode"].as_str().expect("a mode").to_owned());
                        }
                    }
                    modes
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    })
}

#[test]
fn of_20000_keys_the_share_executes_and_a_greater_share_only_adds() {
    let mut before = BTreeSet::new();
    for share in [0.0, 0.05, 0.5, 1.0] {
        // The same keys at each share, each time on a state that knows none of them.
        let server = Server::builder()
            .env("WASM_EXEC_CANARY", &share.to_string())
            .env("WASM_QUEUE_MAX", QUEUE)
            .start();
        let cid = server.upload_guest("loop");
        let modes = modes(&server, &cid, "key", KEYS);
        let word = if share == 1.0 { "live" } else { "canary" };
        assert!(modes.iter().all(|mode| mode == word || mode == "dry-run"));
        let chosen: BTreeSet<usize> =
            modes.iter().enumerate().filter_map(|(number, mode)| (mode == word).then_some(number)).collect();
        let (wanted, deviation) = (share * KEYS as f64, (KEYS as f64 * share * (1.0 - share)).sqrt());
        eprintln!("share {share}: {} of {KEYS}, wanted {wanted} ± {:.0}", chosen.len(), 4.0 * deviation);
        assert!((chosen.len() as f64 - wanted).abs() <= 4.0 * deviation);
        assert!(before.is_subset(&chosen), "un-chosen at {share}");
        before = chosen;
    }
}

#[test]
fn a_raised_share_holds_from_the_next_request_on() {
    let env = EnvFile::new(&["WASM_EXEC_CANARY=0"]);
    let server = Server::builder().env("WASM_ENV_FILE", env.path()).start();
    let cid = server.upload_guest("loop");
    for (share, word) in [("0", "dry-run"), ("1", "live"), ("0", "dry-run")] {
        env.write(&[&format!("WASM_EXEC_CANARY={share}")]);
        assert!(server.reload());
        assert!(
            modes(
                &server,
                &cid,
                &format!("{word}{}", server.metrics().sum("void_wasm_reloads_total", &[])),
                200
            )
            .iter()
            .all(|mode| mode == word)
        );
    }
}

#[test]
fn a_dry_run_looks_at_everything_and_executes_nothing() {
    let server = Server::builder().env("WASM_EXEC_CANARY", "0").start();
    let (add, spin) = (server.upload_guest("add"), server.upload_guest("loop"));
    for _ in 0..200 {
        assert_eq!(server.run(&spin, "forever", json!([])).result(), &json!({"dry_run": true}));
    }
    let run = server.run(&add, "add(i32,i32)->i32", json!([2, 3]));
    assert_eq!(run.result(), &json!({"dry_run": true}));
    assert!(run.record()["started_at"].is_null() && run.usage("cpu_ms") == 0, "{}", run.record());
    server.run(&add, "subtract", json!([2, 3])).failed_with("entry_not_found");
    server.run(&add, "add(i64,i64)->i64", json!([2, 3])).failed_with("entry_type_mismatch");
    let unknown = json!({"target": {"sha256": "ab".repeat(32)}, "entry": "add"});
    server.exec(unknown).wait().failed_with("module_not_found");
    // A canary of the kernel's: no process that could run a guest was ever made for these modules.
    assert!(server.processes("void-zygote").is_empty() && server.processes("void-run").is_empty());
    let metrics = server.metrics();
    assert_eq!(metrics.sum("void_wasm_runs_total", &[("mode", "dry-run"), ("status", "finished")]), 201.0);
    assert_eq!(metrics.sum("void_wasm_runs_total", &[("mode", "live")]), 0.0);
}

#[test]
fn a_dry_run_survives_a_kill_as_a_dry_run() {
    let env = EnvFile::new(&["WASM_EXEC_CANARY=0"]);
    let server = Server::builder().env("WASM_ENV_FILE", env.path()).start();
    let slow = server.upload(&void_tests::slow_to_compile_module(5 << 10));
    let id = server.exec(json!({"target": {"cid": slow}, "entry": "run", "args": [1, 2]})).start();
    eventually("it is compiled", Duration::from_secs(10), || !server.processes("void-compiler").is_empty());
    env.write(&["WASM_EXEC_CANARY=1"]);
    let server = server.restart();
    assert_eq!(server.wait_for(&id).result(), &json!({"dry_run": true}));
    let cid = server.upload(&guest("add"));
    assert_eq!(server.run(&cid, "add", json!([2, 3])).result(), &json!(5));
}
