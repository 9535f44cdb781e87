//! Budgets of gateway calls: in all, a second, and the time of the run. Waiting is no CPU time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;
use void_tests::{Caller, Request, Server, Upstream, eventually};

/// `calls(n)`: makes n calls and counts those that were done. `limited(n)`: counts those that came too fast. `unfit_emit(n)`
/// and `unfit_get(n)`: as many with one byte more than can be sent, and count those that were too large; `unfit_limited(n)`
/// counts those of them that came too fast.
fn counter() -> Vec<u8> {
    let mut caller = Caller::new();
    let key = caller.bytes(b"key");
    let get = format!("$kv_get (i32.const 0) (i32.const 0) {key} (i32.const 0) (i32.const 0)");
    let large_emit = format!("$emit {key} (i32.const 0) (i32.const 65537)");
    let large_get =
        "$kv_get (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 257) (i32.const 0) (i32.const 0)";
    let count = |name: &str, call: &str, code: i32| {
        format!(
            r#"(func (export "{name}") (param $n i32) (result i32) (local $count i32)
              (loop $again
                (local.set $count (i32.add (local.get $count) (i32.eq (i32.const {code})
                  (call {call}))))
                (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
              (local.get $count))"#
        )
    };
    let code = count("calls", &get, -5)
        + &count("limited", &get, -2)
        + &count("unfit_emit", &large_emit, -3)
        + &count("unfit_get", large_get, -3)
        + &count("unfit_limited", large_get, -2);
    caller.code(&code).build()
}

/// A host that answers nothing until what comes with it is dropped.
fn silent_host() -> (Upstream, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel();
    let held = std::sync::Mutex::new(held);
    let host = Upstream::start(move |_, _| {
        let _ = held.lock().unwrap().recv();
        Ok(())
    });
    (host, release)
}

/// `slow` fetches from it.
fn asking(host: &Upstream) -> Vec<u8> {
    Caller::new().fetch("slow", Request::get(&format!("http://{}/", host.place()))).build()
}

#[test]
fn the_call_after_the_last_one_ends_the_run() {
    let server = Server::builder()
        .env("WASM_CAPS", "kv")
        .env("WASM_SYSCALL_MAX", "100")
        .env("WASM_SYSCALL_RPS", "100000")
        .start();
    let cid = server.upload(&counter());
    let run = server.run(&cid, "calls", json!([100]));
    assert_eq!((run.result(), run.usage("syscalls")), (&json!(100), 100));
    let run = server.run(&cid, "calls", json!([101]));
    assert!(run.failed_with("syscall_budget").contains("WASM_SYSCALL_MAX"));
    assert_eq!(run.usage("syscalls"), 101);
    assert_eq!(run.record()["denials"][0]["rule"], "call_budget");
    let metrics = server.metrics();
    assert_eq!(metrics.sum("void_wasm_resource_violations_total", &[("type", "syscall_budget")]), 1.0);
    assert_eq!(metrics.sum("void_wasm_policy_denied_total", &[("reason", "call_budget")]), 1.0);
    // Refused calls are counted like all others.
    let server = Server::builder().env("WASM_CAPS", "").env("WASM_SYSCALL_MAX", "10").start();
    let cid = server.upload(&counter());
    server.run(&cid, "calls", json!([11])).failed_with("syscall_budget");
}

#[test]
fn what_cannot_be_sent_is_counted_too() {
    let server = Server::builder().env("WASM_CAPS", "emit,kv").env("WASM_SYSCALL_RPS", "100000").start();
    let cid = server.upload(&counter());
    for (entry, kind, cap) in [("unfit_emit", "emit", "emit"), ("unfit_get", "kv.get", "kv")] {
        let run = server.run(&cid, entry, json!([1000]));
        assert_eq!((run.result(), run.usage("syscalls")), (&json!(1000), 1000), "{}", run.record());
        let run = server.run(&cid, entry, json!([3000]));
        assert!(run.failed_with("syscall_budget").contains("WASM_SYSCALL_MAX"));
        assert_eq!(run.usage("syscalls"), 1001);
        let denials: Vec<_> = run.record()["denials"]
            .as_array()
            .expect("denials")
            .iter()
            .map(|denial| (denial["rule"].as_str().unwrap(), denial["count"].as_u64().unwrap()))
            .collect();
        assert_eq!(denials, [("too_large", 1000), ("call_budget", 1)], "{}", run.record());
        let metrics = server.metrics();
        let labels = [("kind", kind), ("decision", "deny")];
        assert_eq!(metrics.sum("void_wasm_syscalls_total", &labels), 2001.0);
        let labels = [("cap", cap), ("reason", "too_large")];
        assert_eq!(metrics.sum("void_wasm_policy_denied_total", &labels), 2000.0);
    }
}

#[test]
fn no_call_at_all_where_none_is_granted() {
    let server = Server::builder().env("WASM_CAPS", "kv").env("WASM_SYSCALL_MAX", "0").start();
    let cid = server.upload(&counter());
    server.run(&cid, "calls", json!([1])).failed_with("syscall_budget");
}

#[test]
fn too_many_in_a_second_are_limited_and_the_run_goes_on() {
    let server = Server::builder()
        .env("WASM_CAPS", "kv")
        .env("WASM_SYSCALL_MAX", "100000")
        .env("WASM_SYSCALL_RPS", "50")
        .start();
    let cid = server.upload(&counter());
    let run = server.run(&cid, "limited", json!([500]));
    let limited = run.result().as_u64().unwrap();
    // A second's worth at once, and what comes back meanwhile.
    let allowed = 500 - limited;
    assert!((50..=50 + run.usage("wall_ms") / 20 + 2).contains(&allowed), "{allowed}: {}", run.record());
    let denial = &run.record()["denials"][0];
    assert_eq!((&denial["rule"], &denial["count"]), (&json!("call_rate"), &json!(limited)));
    let labels = [("kind", "kv.get"), ("decision", "rate_limited")];
    assert_eq!(server.metrics().sum("void_wasm_syscalls_total", &labels), limited as f64);
    // What cannot be sent comes as fast.
    let run = server.run(&cid, "unfit_limited", json!([500]));
    let limited = run.result().as_u64().unwrap();
    assert!((50..=50 + run.usage("wall_ms") / 20 + 2).contains(&(500 - limited)), "{}", run.record());
}

/// One fetch was permitted, and its run ended under it: it is counted once, as that.
#[track_caller]
fn assert_given_up(server: &Server) {
    let metrics = server.metrics();
    let labels = [("kind", "http.fetch"), ("decision", "allow")];
    assert_eq!(metrics.sum("void_wasm_syscalls_total", &labels), 1.0);
    assert_eq!(metrics.sum("void_wasm_syscalls_total", &[]), 1.0);
    assert_eq!(metrics.sum("void_wasm_fetches_total", &[("outcome", "given_up")]), 1.0);
    assert_eq!(metrics.sum("void_wasm_fetches_total", &[]), 1.0);
}

#[test]
fn a_call_whose_process_is_killed_is_counted() {
    let (slow, release) = silent_host();
    let server = Server::builder()
        .env("WASM_CAPS", "http")
        .env("WASM_HTTP_ALLOWLIST", &slow.place())
        .env("WASM_WALL_MS_BUDGET", "60000")
        .start();
    let cid = server.upload(&asking(&slow));
    let id = server.exec(json!({"target": {"cid": cid}, "entry": "slow"})).start();
    eventually("the host was asked", Duration::from_secs(20), || slow.asked().len() == 1);
    // Those that wait for a run too: one of them is it.
    server.processes("void-run").iter().for_each(void_tests::Process::kill);
    server.wait_for(&id).failed_with("worker_crashed");
    assert_given_up(&server);
    drop(release);
}

#[test]
fn the_time_of_the_run_ends_a_fetch_and_waiting_is_no_cpu_time() {
    let (slow, release) = silent_host();
    let server = Server::builder()
        .env("WASM_CAPS", "http")
        .env("WASM_HTTP_ALLOWLIST", &slow.place())
        .env("WASM_WALL_MS_BUDGET", "500")
        .env("WASM_CPU_MS_BUDGET", "100")
        .start();
    let cid = server.upload(&asking(&slow));
    let run = server.run(&cid, "slow", json!([]));
    run.failed_with("wall_budget");
    assert!(run.usage("wall_ms") >= 499 && run.usage("wait_ms") >= 400, "{}", run.record());
    assert!(run.usage("cpu_ms") < 100 && run.usage("syscalls") == 1, "{}", run.record());
    assert_given_up(&server);
    drop(release);
}

#[test]
fn a_cancel_ends_a_fetch() {
    let (slow, release) = silent_host();
    let server = Server::builder().env("WASM_CAPS", "http").env("WASM_HTTP_ALLOWLIST", &slow.place()).start();
    let cid = server.upload(&asking(&slow));
    let id = server.exec(json!({"target": {"cid": cid}, "entry": "slow"})).start();
    eventually("the host was asked", Duration::from_secs(20), || slow.asked().len() == 1);
    let begin = Instant::now();
    assert_eq!(server.post(&format!("/v1/runs/{id}/cancel"), &json!(null)).status, 200);
    let run = server.wait_for(&id);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!((run.status(), run.usage("syscalls")), ("cancelled", 1));
    assert_given_up(&server);
    drop(release);
}

#[test]
fn a_run_uses_the_policy_that_stood_when_it_was_accepted() {
    let file = void_tests::EnvFile::new(&["WASM_CAPS=kv", "WASM_WORKERS=1"]);
    let server =
        Server::builder().env("WASM_ENV_FILE", file.path()).env("WASM_CPU_MS_BUDGET", "10000").start();
    let cid = server.upload(&counter());
    let spin = server.upload_guest("loop");
    assert_eq!(server.run(&cid, "calls", json!([1])).result(), &json!(1));
    // The one place is taken, so that the second run waits over the reload.
    let first = server.exec(json!({"target": {"cid": spin}, "entry": "forever"})).start();
    let second = server.exec(json!({"target": {"cid": cid}, "entry": "calls", "args": [3]})).start();
    file.write(&["WASM_CAPS=emit", "WASM_WORKERS=1"]);
    assert!(server.reload());
    server.post(&format!("/v1/runs/{first}/cancel"), &json!(null));
    assert_eq!(server.wait_for(&second).result(), &json!(3));
    assert_eq!(server.run(&cid, "calls", json!([3])).result(), &json!(0));
}
