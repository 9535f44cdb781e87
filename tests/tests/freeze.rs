//! The emergency switches: once a reload is acknowledged, no guest starts until the thaw.
//!
//! The witnesses: `started_at` of every run, taken before its guest can have had its order, against the moment in
//! which this test had heard of the reload; and the CPU time of all run processes as the kernel counts it, which stands
//! still as soon as what ran before has ended. The guests' own witness is in `freeze_witness.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use void_tests::{DatabaseLock, EnvFile, Events, Load, Notified, Process, Server, eventually, timestamp};

const SOON: Duration = Duration::from_secs(20);

fn guests_cpu(server: &Server) -> BTreeMap<i32, u64> {
    server.processes("void-run").iter().map(|process| (process.pid, process.cpu_ticks())).collect()
}

/// Under load, reloads with `line` added, and proves that nothing begins before the thaw.
fn nothing_begins(line: &str) {
    let heard = Notified::new();
    let env = EnvFile::new(&["WASM_EXEC_FREEZE=0"]);
    let server = Server::builder()
        .env("WASM_ENV_FILE", env.path())
        .env("NOTIFY_SOCKET", &heard.path())
        .env("WASM_WORKERS", "4")
        .start();
    heard.hears("READY=1");
    let cid = server.upload_guest("loop");
    let of_load = cid.clone();
    let spin = move |_: usize, turn: usize| -> Value {
        let turns = if turn.is_multiple_of(3) { 30_000_000 } else { 100 };
        json!({"target": {"cid": of_load}, "entry": "spin", "args": [turns]})
    };
    let load = Load::start(&server, 16, spin);
    // Besides those that wait for their runs: many that are queued.
    let queue = || {
        let request = json!({"target": {"cid": cid}, "entry": "spin", "args": [3_000_000]});
        (0..300).map(|_| server.exec(request.clone()).start()).collect::<Vec<_>>()
    };
    eventually("the load is on", SOON, || load.done() > 50);
    let queued = queue();
    for round in 0..3 {
        env.write(&[line]);
        server.signal(Signal::SIGHUP);
        heard.hears("RELOADING=1");
        heard.hears("READY=1");
        let acknowledged = timestamp();
        eventually("what ran has ended", SOON, || {
            server.metrics().sum("void_wasm_workers", &[("role", "run"), ("state", "busy")]) == 0.0
        });
        let before = guests_cpu(&server);
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(50));
        }
        let after = guests_cpu(&server);
        for (pid, ticks) in &after {
            assert!(ticks - before.get(pid).unwrap_or(&0) <= 1, "a guest computes: {before:?} {after:?}");
        }
        let waiting = queued.iter().filter(|id| server.look_up(id).status() == "accepted").count();
        if round == 0 {
            assert!(waiting > 0, "nothing was queued any more, so nothing is shown");
        }
        let thawed = timestamp();
        env.write(&["WASM_EXEC_FREEZE=0"]);
        assert!(server.reload());
        heard.hears("READY=1");
        for run in server.list(usize::MAX) {
            let at = run["started_at"].as_str().unwrap_or_default();
            assert!(at <= acknowledged.as_str() || at >= thawed.as_str(), "frozen at {acknowledged}: {run}");
        }
    }
    for id in queued {
        server.wait_for(&id).result();
    }
    let outcomes = load.finish();
    assert!(outcomes.contains_key("finished"), "{outcomes:?}");
    let runs = server.list(usize::MAX);
    for run in runs.iter().filter(|run| run["mode"] == "frozen") {
        assert_eq!(run["status"], "frozen", "{run}");
        assert!(run["started_at"].is_null() && run["result"].is_null(), "{run}");
    }
    eprintln!("{line}: {} runs, {} of the load executed", runs.len(), outcomes["finished"]);
}

#[test]
fn no_guest_starts_while_frozen() {
    nothing_begins("WASM_EXEC_FREEZE=1");
}

#[test]
fn no_guest_starts_while_disabled() {
    nothing_begins("WASM_EXEC_ENABLED=0");
}

#[test]
fn a_run_that_a_freeze_holds_can_be_cancelled_and_survives_a_kill() {
    let env = EnvFile::new(&["WASM_EXEC_FREEZE=0"]);
    let server = Server::builder().env("WASM_ENV_FILE", env.path()).env("WASM_WORKERS", "1").start();
    let cid = server.upload_guest("loop");
    let start = |entry: &str| server.exec(json!({"target": {"cid": cid}, "entry": entry})).start();
    let forever = start("forever");
    eventually("it runs", SOON, || server.look_up(&forever).status() == "running");
    let (cancelled, kept) = (start("answer"), start("answer"));
    env.write(&["WASM_EXEC_FREEZE=1"]);
    assert!(server.reload());
    let frozen = start("answer");
    let answer = server.request("POST", &format!("/v1/runs/{cancelled}/cancel"), &[], &[]);
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("cancelled")), "{}", answer.text());
    // Held across a kill, and a start that is still frozen.
    let server = server.restart();
    assert_eq!(server.look_up(&kept).status(), "accepted");
    assert_eq!(server.look_up(&forever).reason(), "interrupted");
    env.write(&["WASM_EXEC_FREEZE=0"]);
    assert!(server.reload());
    assert_eq!(server.wait_for(&kept).result(), &json!(42));
    assert_eq!(server.look_up(&frozen).status(), "frozen");
    let again = server.exec(json!({"target": {"cid": cid}, "entry": "answer"}));
    env.write(&["WASM_EXEC_FREEZE=1"]);
    assert!(server.reload());
    assert_eq!(again.send().json()["mode"], "frozen");
    let counted = server.metrics().sum("void_wasm_runs_total", &[("status", "frozen"), ("mode", "frozen")]);
    assert_eq!(counted, 1.0, "since the restart");
    assert_eq!(server.look_up(&cancelled).status(), "cancelled");
}

#[test]
fn a_run_whose_beginning_is_stored_when_a_freeze_comes_has_not_begun() {
    if !DatabaseLock::is_possible() {
        return;
    }
    let env = EnvFile::new(&["WASM_EXEC_FREEZE=0"]);
    let server = Server::builder().env("WASM_ENV_FILE", env.path()).start();
    let cid = server.upload_guest("loop");
    server.run_on_each_lane(&cid, "answer");
    let leased = || server.metrics().sum("void_wasm_stage_seconds_total", &[("stage", "lease")]);
    let before = leased();
    // Its beginning waits for the lock, and the freeze comes first.
    let lock = DatabaseLock::take(&server);
    let id = thread::scope(|scope| {
        let client = scope.spawn(|| server.exec(json!({"target": {"cid": cid}, "entry": "answer"})).start());
        eventually("it has a process", SOON, || leased() > before);
        env.write(&["WASM_EXEC_FREEZE=1"]);
        assert!(server.reload());
        drop(lock);
        client.join().expect("it was accepted")
    });
    eventually("it is held back", SOON, || server.look_up(&id).status() == "accepted");
    assert_eq!(server.look_up(&id).record()["started_at"], Value::Null);
    let server = server.restart();
    assert_eq!(server.look_up(&id).status(), "accepted");
    env.write(&["WASM_EXEC_FREEZE=0"]);
    assert!(server.reload());
    assert_eq!(server.wait_for(&id).result(), &json!(42));
    let mut events = Events::follow(&server, &format!("?run_id={id}"), Some(0));
    let kinds = [(); 2].map(|()| events.next(SOON).expect("an event").kind().to_owned());
    assert_eq!(kinds, ["wasm.exec.started", "wasm.exec.finished"]);
}

#[test]
fn a_drain_while_frozen_leaves_what_waits_for_the_next_start() {
    let env = EnvFile::new(&["WASM_EXEC_FREEZE=0"]);
    let server = Server::builder()
        .env("WASM_ENV_FILE", env.path())
        .env("WASM_WORKERS", "1")
        .env("WASM_CPU_MS_BUDGET", "700")
        .start();
    let cid = server.upload_guest("loop");
    let start = |entry: &str| server.exec(json!({"target": {"cid": cid}, "entry": entry})).start();
    let forever = start("forever");
    // Which of them comes first, when the module is there, is not promised.
    eventually("the first has the only worker", SOON, || server.look_up(&forever).status() == "running");
    let kept: Vec<_> = (0..20).map(|_| start("answer")).collect();
    env.write(&["WASM_EXEC_FREEZE=1"]);
    assert!(server.reload());
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
    env.write(&["WASM_EXEC_FREEZE=0"]);
    let server = server.restart();
    for id in &kept {
        assert_eq!(server.wait_for(id).result(), &json!(42));
    }
    server.wait_for(&forever).failed_with("cpu_budget");
}

/// A server whose processes that were forked ahead do not move, and a run whose order lies before one of them.
fn ordered_and_not_begun() -> (Server, EnvFile, Notified, Vec<Process>, String) {
    let heard = Notified::new();
    let env = EnvFile::new(&["WASM_EXEC_FREEZE=0"]);
    let server =
        Server::builder().env("WASM_ENV_FILE", env.path()).env("NOTIFY_SOCKET", &heard.path()).start();
    heard.hears("READY=1");
    let cid = server.upload_guest("loop");
    server.run_on_each_lane(&cid, "answer");
    let zygotes = server.processes("void-zygote").len();
    // All that were ordered are there and none besides, and each has said that it is ready: one that runs has not yet.
    eventually("each has a process that waits", SOON, || {
        let spares = server.processes("void-run");
        let ordered = server.metrics().sum("void_wasm_workers", &[("role", "run")]);
        spares.len() >= zygotes
            && spares.len() as f64 == ordered
            && spares.iter().all(|process| !process.is_running() && !process.is_zombie())
    });
    let spares = server.processes("void-run");
    spares.iter().for_each(|process| process.signal(Signal::SIGSTOP));
    // A signal is heard when the process has its next turn.
    let stopped = |process: &Process| process.status(None)["State"].starts_with('T');
    eventually("none of them moves", SOON, || spares.iter().all(stopped));
    let id = server.exec(json!({"target": {"cid": cid}, "entry": "answer"})).start();
    // That it runs is stored a moment before its order is sent; a process is at work from the order on.
    let at_work = [("role", "run"), ("state", "busy")];
    eventually("it was ordered to begin", SOON, || {
        server.metrics().sum("void_wasm_workers", &at_work) == 1.0
    });
    assert_eq!(server.look_up(&id).status(), "running");
    env.write(&["WASM_EXEC_FREEZE=1"]);
    server.signal(Signal::SIGHUP);
    heard.hears("RELOADING=1");
    (server, env, heard, spares, id)
}

#[test]
fn a_guest_that_was_ordered_and_has_not_begun_never_begins_after_the_freeze() {
    let (server, _env, heard, spares, id) = ordered_and_not_begun();
    heard.hears("READY=1");
    // Acknowledged. Whatever was ordered before can move again now, and must not begin.
    spares.iter().for_each(|process| process.signal(Signal::SIGCONT));
    let run = server.wait_for(&id);
    assert_ne!(run.record()["result"], json!(42), "the guest began after the freeze: {}", run.record());
    run.failed_with("worker_crashed");
}

#[test]
fn a_freeze_is_acknowledged_only_when_what_was_ordered_has_begun() {
    let (server, _env, heard, spares, id) = ordered_and_not_begun();
    // Before what was ordered may move, nobody is told that the freeze holds.
    assert_eq!(server.get("/v1/policy").json()["freeze"], json!(false));
    assert_eq!(server.metrics().sum("void_wasm_reloads_total", &[("outcome", "applied")]), 0.0);
    spares.iter().for_each(|process| process.signal(Signal::SIGCONT));
    heard.hears("READY=1");
    assert_eq!(server.wait_for(&id).result(), &json!(42));
    assert_eq!(server.get("/v1/policy").json()["freeze"], json!(true));
}
