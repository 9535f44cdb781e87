//! A run process that an attacker has taken over says whatever it wants, and ends its own run by it and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use void_tests::{Builder, Load, Run, Server, Upstream, marked, wat};

/// What no sound worker says.
const LIES: &[&str] = &[
    "garbage",
    "short_header",
    "wrong_length",
    "wrong_version",
    "unknown_message",
    "trailing_bytes",
    "endless_list",
    "not_utf8",
    "only_a_header",
    "oversized_packet",
    "oversized_output",
    "too_many_values",
    "huge_message",
    "huge_backtrace",
    "huge_line",
    "never_ready",
    "ready_twice",
    "call_while_waiting",
    "output_while_waiting",
    "done_while_waiting",
    "ready_while_waiting",
    "garbage_while_waiting",
    "answers_not_awaited",
];

/// How these end, which are over by themselves.
const OTHERS: &[(&str, &str)] = &[
    ("empty_packet", "worker_crashed"),
    ("gone_while_waiting", "worker_crashed"),
    ("descriptors", "worker_crashed"),
    ("flood_of_output", "output"),
    ("flood_of_calls", "syscall_budget"),
    ("flood_of_emits", "syscall_budget"),
    ("flood_of_unfit", "syscall_budget"),
    ("lies_of_the_end", "memory"),
    ("exits_oddly", "exit"),
];

const REST: &[&str] = &[
    "sound",
    "huge_value",
    "silent",
    "sleeps_for_ever",
    "flood_of_small_output",
    "flood_of_sleeps",
    "flood_of_denials",
    "all_unfit",
    "lies_of_memory",
    "one_ahead",
];

/// A module with all of them as exports. Where `never_ready` is one, the worker does not say that it is ready.
fn module(with_never_ready: bool) -> Vec<u8> {
    let names = LIES.iter().chain(OTHERS.iter().map(|(name, _)| name)).chain(REST);
    let mut text = "(module (func (export \"deaf\") (param i32) (result i32) i32.const 42)".to_owned();
    for name in names.filter(|name| with_never_ready == (**name == "never_ready")) {
        write!(text, "(func (export \"{name}\") (result i32) i32.const 42)").unwrap();
    }
    wat(&(text + ")"))
}

fn hostile() -> Builder {
    Server::builder()
        .with_hostile_worker()
        .env("WASM_CAPS", "emit,http,kv")
        // What ends by a number or at once must not end by time, on however busy a machine.
        .env("WASM_CPU_MS_BUDGET", "60000")
        .env("WASM_WALL_MS_BUDGET", "100000")
        .env("WASM_SYSCALL_RPS", "1000000")
}

#[track_caller]
fn crashed(run: &Run) {
    let error = run.failed_with("worker_crashed");
    assert!(error.contains("no sound worker"), "{}: {error}", run.record());
}

#[test]
fn each_lie_ends_its_own_run_at_once() {
    let server = hostile().start();
    let cid = server.upload(&module(false));
    let never_ready = server.upload(&module(true));
    for lie in LIES {
        let module = if *lie == "never_ready" { &never_ready } else { &cid };
        let begin = Instant::now();
        let run = server.run(module, lie, json!([]));
        if *lie == "never_ready" {
            // It is given no run at all.
            let error = run.failed_with("worker_crashed");
            assert!(error.contains("no run process could be had"), "{error}");
        } else {
            crashed(&run);
        }
        // Long before any budget: it is found when it is said.
        assert!(begin.elapsed() < Duration::from_secs(10), "{lie} took {:?}", begin.elapsed());
        assert_eq!(server.run(&cid, "sound", json!([])).result(), &json!(42), "after {lie}");
    }
    for (what, reason) in OTHERS {
        server.run(&cid, what, json!([])).failed_with(reason);
    }
    let sound = server.run(&cid, "sound", json!([]));
    assert_eq!((sound.result(), sound.usage("syscalls")), (&json!(42), 6));
    assert_eq!(sound.record()["stdout"], "said");
}

#[test]
fn output_is_kept_up_to_its_limit_and_the_cut_is_told() {
    for limit in [0, 1000, 65_536, 1_048_576] {
        let server = hostile().env("WASM_OUTPUT_MAX_BYTES", &limit.to_string()).start();
        let cid = server.upload(&module(false));
        let run = server.run(&cid, "flood_of_output", json!([]));
        assert!(run.failed_with("output").contains("64 MiB"));
        assert_eq!(run.record()["stdout"].as_str().map(str::len), Some(limit));
        assert_eq!(run.record()["stdout_truncated"], true);
        assert!(run.record().get("stderr").is_none() && run.record().get("stderr_truncated").is_none());
        let kept = server.look_up(run.id());
        assert_eq!(kept.record(), run.record());
    }
}

#[test]
fn lies_about_memory_are_cut_to_what_can_be() {
    let server = hostile().env("WASM_MEM_PAGES_MAX", "32").start();
    let cid = server.upload(&module(false));
    let run = server.run(&cid, "lies_of_memory", json!([]));
    assert_eq!((run.result(), run.usage("mem_pages")), (&json!(42), 32));
}

#[test]
fn slow_ones_end_with_their_budgets() {
    let server = hostile().env("WASM_WALL_MS_BUDGET", "300").start();
    let cid = server.upload(&module(false));
    for slow in ["silent", "sleeps_for_ever", "flood_of_sleeps"] {
        let run = server.run(&cid, slow, json!([]));
        run.failed_with("wall_budget");
        assert!(run.usage("wall_ms") >= 299, "{}", run.record());
        assert_eq!(run.usage("syscalls"), 0, "a sleep is no gateway call: {}", run.record());
        if slow != "silent" {
            assert!(run.usage("wait_ms") >= 150 && run.usage("cpu_ms") < 200, "{}", run.record());
        }
    }
}

#[test]
fn a_flood_of_small_pieces_ends_and_leaves_others_their_time() {
    let server = hostile().env("WASM_WORKERS", "4").start();
    let cid = server.upload(&module(false));
    server.run(&cid, "sound", json!([])).result();
    let floods = [0, 1]
        .map(|_| server.exec(json!({"target": {"cid": cid}, "entry": "flood_of_small_output"})).start());
    let good = Load::start(&server, 1, move |_, _| json!({"target": {"cid": cid}, "entry": "sound"}));
    for id in floods {
        server.wait_for(&id).failed_with("output");
    }
    let outcomes = good.finish();
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), ["finished"], "{outcomes:?}");
}

#[test]
fn a_deaf_one_holds_nobody_up_and_can_be_cancelled() {
    let big = Upstream::start(|_, to| void_tests::reply(to, "200 OK", &[], &vec![b'x'; 8 << 20]));
    let server = hostile()
        .env("WASM_HTTP_ALLOWLIST", &big.place())
        .env("WASM_HTTP_MAX_BYTES", "16777216")
        .env("WASM_CPU_MS_BUDGET", "60000")
        .env("WASM_WALL_MS_BUDGET", "60000")
        .start();
    let cid = server.upload(&module(false));
    let port = big.address.port();
    let deaf = server.exec(json!({"target": {"cid": cid}, "entry": "deaf", "args": [port]})).start();
    void_tests::eventually("it was answered", Duration::from_secs(20), || {
        server.metrics().sum("void_wasm_syscalls_total", &[("kind", "http.fetch"), ("decision", "allow")])
            == 1.0
    });
    // Its answer does not fit its socket, and the lane goes on all the same.
    for _ in 0..20 {
        server.run(&cid, "sound", json!([])).result();
    }
    let begin = Instant::now();
    let answer = server.post(&format!("/v1/runs/{deaf}/cancel"), &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(server.wait_for(&deaf).status(), "cancelled");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn refusals_stand_in_the_record_once_each_and_do_not_flood_the_log() {
    let server = hostile().start();
    let cid = server.upload(&module(false));
    let run = server.run(&cid, "flood_of_denials", json!([]));
    assert_eq!((run.result(), run.usage("syscalls")), (&json!(42), 500));
    let denials = run.record()["denials"].as_array().expect("denials").clone();
    assert!((1..=16).contains(&denials.len()), "{}", denials.len());
    assert_eq!(denials.iter().map(|denial| denial["count"].as_u64().unwrap()).sum::<u64>(), 500);
    assert!(denials.iter().all(|denial| denial["rule"] == "bad_name" && denial["kind"] == "kv.get"));
    server.run(&cid, "huge_value", json!([])).result();
    let begin = Instant::now();
    for _ in 0..20 {
        server.run(&cid, "flood_of_denials", json!([])).result();
    }
    let most = 60 + 10 * usize::try_from(begin.elapsed().as_secs() + 2).unwrap();
    let lines = server.log().lines().filter(|line| line.contains("a gateway call was denied")).count();
    assert!((16..=most).contains(&lines), "{lines} lines for 10,000 refusals, and at most {most} are due");
    let denied =
        server.metrics().sum("void_wasm_policy_denied_total", &[("cap", "kv"), ("reason", "bad_name")]);
    assert_eq!(denied, 21.0 * 500.0);
}

#[test]
fn whatever_is_said_to_be_unfit_is_refused_and_told_within_bounds() {
    let server = hostile().start();
    let cid = server.upload(&module(false));
    let run = server.run(&cid, "all_unfit", json!([]));
    // 14 parts, three times each.
    assert_eq!((run.result(), run.usage("syscalls")), (&json!(42), 42), "{}", run.record());
    let denials = run.record()["denials"].as_array().expect("denials");
    assert_eq!(denials.len(), 16);
    for word in ["reason", "remedy"] {
        let length = |denial: &Value| denial[word].as_str().unwrap().len();
        assert!(denials.iter().all(|denial| (1..200).contains(&length(denial))), "{}", run.record());
    }
    let denied = server.metrics().sum("void_wasm_policy_denied_total", &[]);
    assert_eq!(denied, 42.0);
}

#[test]
fn memory_stays_flat_whatever_they_say() {
    let server = hostile().start();
    let cid = server.upload(&module(false));
    let all = |times| {
        for _ in 0..times {
            for lie in LIES.iter().filter(|lie| **lie != "never_ready") {
                crashed(&server.run(&cid, lie, json!([])));
            }
            // Events are written to the disk, 62 MiB a run: what they cost is told in `gateway_emit`.
            for (what, reason) in OTHERS.iter().filter(|(what, _)| *what != "flood_of_emits") {
                server.run(&cid, what, json!([])).failed_with(reason);
            }
        }
    };
    all(2);
    let before = server.process().kib("VmRSS");
    all(6);
    let after = server.process().kib("VmRSS");
    assert!(after < before + 16 * 1024, "{before} KiB, then {after} KiB");
}

#[test]
fn an_end_that_is_said_ahead_reaches_no_other_module() {
    let server = hostile().env("WASM_ISOLATION", "module").env("WASM_WALL_MS_BUDGET", "300").start();
    assert_eq!(server.get("/v1/policy").json()["isolation"], "module");
    let (liar, other) = (server.upload(&module(false)), server.upload(&marked(&module(false), 1)));
    let sound = server.run(&other, "sound", json!([])).result().clone();
    assert_ne!(sound, 7);
    for _ in 0..10 {
        // A process that serves many runs of a module is subverted for all that it serves from then on; no other's are.
        server.run(&liar, "one_ahead", json!([]));
        let after = server.run(&liar, "sound", json!([]));
        let reasons = ["worker_crashed", "wall_budget"];
        assert!(after.status() == "finished" || reasons.contains(&after.reason()), "{}", after.record());
        // Each of these processes serves one run alone, so the next one gets another.
        let run = server.run(&other, "sound", json!([]));
        assert!(run.status() != "finished" || *run.result() == sound, "{}", run.record());
    }
    assert_eq!(server.get("/health").status, 200);
}
