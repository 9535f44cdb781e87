//! The emergency switches by the witness of the guests: each fetches its run's number from a host of this test before it
//! does anything else.
//!
//! What is claimed holds whatever the service's records say. A guest that had begun before the acknowledgment may not have
//! been heard of yet, so up to one mark for each place may come after it. When those have ended, none comes any more until
//! the thaw; and in the end each run that was executed has marked once, and nothing else has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use void_tests::{EnvFile, Load, Notified, Server, Witness, eventually, timestamp};

/// Generous: nothing here depends on how fast the machine is.
const SOON: Duration = Duration::from_secs(60);
const WORKERS: usize = 4;

/// Under load, reloads with `line` added, and proves by the guests' marks that none begins before the thaw.
///
/// What is asked for meanwhile is answered with `status` and `word` in `field`.
fn no_guest_marks(line: &str, (status, field, word): (u16, &str, &str)) {
    let witness = Witness::start();
    let heard = Notified::new();
    let env = EnvFile::new(&["WASM_EXEC_FREEZE=0"]);
    let server = Server::builder()
        .env("WASM_ENV_FILE", env.path())
        .env("NOTIFY_SOCKET", &heard.path())
        .env("WASM_WORKERS", &WORKERS.to_string())
        .env("WASM_CAPS", "http")
        .env("WASM_HTTP_ALLOWLIST", &witness.place())
        .env("WASM_HTTP_RPS", "1000000")
        .env("WASM_HTTP_BURST", "1000000")
        .start();
    heard.hears("READY=1");
    let cid = server.upload(&witness.guest(
        r#"(func (export "go") (param i64 i64) (call $mark (local.get 0)) (call $spin (local.get 1)))"#,
    ));
    let next = Arc::new(AtomicU64::new(1));
    let request = {
        let next = Arc::clone(&next);
        move |turns: u64| -> Value {
            let number = next.fetch_add(1, Ordering::Relaxed);
            json!({"target": {"cid": cid}, "entry": "go", "args": [number, turns],
                "labels": {"number": number.to_string()}})
        }
    };
    let of_load = request.clone();
    let load = Load::start(&server, 16, move |_, turn| of_load(if turn % 3 == 0 { 30_000_000 } else { 0 }));
    eventually("the load is on", SOON, || load.done() > 50);
    let (mut queued, mut unexecuted) = (Vec::new(), 0);
    for _ in 0..3 {
        queued.extend((0..200).map(|_| server.exec(request(10_000_000)).start()));
        env.write(&[line]);
        server.signal(Signal::SIGHUP);
        heard.hears("RELOADING=1");
        heard.hears("READY=1");
        let at_once = witness.count();
        let acknowledged = timestamp();
        // A guest that had begun is perhaps not yet heard of. There is one in each place at most, and it marks once.
        eventually("what ran has ended", SOON, || {
            server.metrics().sum("void_wasm_workers", &[("role", "run"), ("state", "busy")]) == 0.0
        });
        let marked = witness.marks();
        let late: BTreeSet<u64> = marked[at_once..].iter().copied().collect();
        assert!(late.len() <= WORKERS, "marked after the acknowledgment: {late:?}");
        let waiting = queued.iter().filter(|id| server.look_up(id).status() == "accepted").count();
        assert!(waiting > 0, "nothing was queued any more, so nothing is shown");
        // The connections of the load wait with their runs. What is asked for now is refused, or recorded and no more.
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            let answer = server.exec(request(0)).header("Prefer", "wait=20").send();
            assert_eq!((answer.status, &answer.json()[field]), (status, &json!(word)), "{}", answer.text());
            unexecuted += 1;
        }
        assert_eq!(witness.marks(), marked, "a guest began after the freeze");
        for run in server.list(usize::MAX) {
            if run["labels"]["number"].as_str().is_some_and(|number| late.contains(&number.parse().unwrap()))
            {
                assert!(run["started_at"].as_str().unwrap_or("~") <= acknowledged.as_str(), "{run}");
            }
        }
        env.write(&["WASM_EXEC_FREEZE=0"]);
        assert!(server.reload());
        heard.hears("READY=1");
        eventually("guests begin again", SOON, || witness.count() >= marked.len() + 20);
    }
    for id in &queued {
        server.wait_for(id);
    }
    load.finish();
    assert!(unexecuted > 30, "only {unexecuted} were asked for meanwhile");
    // Each guest that was to run has, once, and no other.
    let mut counts = witness.counts();
    let runs = server.list(usize::MAX);
    let (mut executed, mut killed) = (0, 0);
    for run in &runs {
        let number: u64 = run["labels"]["number"].as_str().expect("a number").parse().expect("a number");
        let marks = counts.remove(&number).unwrap_or(0);
        match (run["status"].as_str(), run["reason"].as_str()) {
            (Some("finished"), _) => {
                assert_eq!(marks, 1, "{run}");
                executed += 1;
            }
            (Some("frozen"), _) => assert_eq!(marks, 0, "{run}"),
            // On a machine that stands still, one had its order and had not begun: it was killed before the acknowledgment.
            (_, Some("worker_crashed")) => killed += 1,
            _ => panic!("{run}"),
        }
        assert!(marks <= 1, "{marks} marks: {run}");
    }
    assert!(counts.is_empty(), "runs without a record have marked: {counts:?}");
    assert!(executed > queued.len() / 2 && killed <= 3 * WORKERS, "{executed} executed, {killed} killed");
    eprintln!("{line}: {} runs, {executed} executed, {unexecuted} asked for meanwhile", runs.len());
}

#[test]
fn no_guest_starts_while_frozen() {
    no_guest_marks("WASM_EXEC_FREEZE=1", (202, "mode", "frozen"));
}

#[test]
fn no_guest_starts_while_disabled() {
    no_guest_marks("WASM_EXEC_ENABLED=0", (503, "code", "disabled"));
}
