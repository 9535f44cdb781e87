//! Every limit ends the run in its own reason, and hurts nothing but that run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeMap;

use serde_json::json;
use void_tests::{Load, Run, Server};

/// The contract: an endless loop ends within its CPU budget plus this.
const CPU_GRACE_MS: u64 = 20;

fn ended_on_its_cpu_budget(run: &Run, budget: u64) {
    run.failed_with("cpu_budget");
    let used = run.usage("cpu_ms");
    assert!(used + 1 >= budget, "ended early: {used} of {budget} ms");
    assert!(used <= budget + CPU_GRACE_MS, "ended late: {used} of {budget} ms");
}

#[test]
fn an_endless_loop_ends_within_its_cpu_budget() {
    for budget in [20, 100, 300] {
        let server = Server::builder().env("WASM_CPU_MS_BUDGET", &budget.to_string()).start();
        let cid = server.upload_guest("loop");
        for _ in 0..3 {
            ended_on_its_cpu_budget(&server.run(&cid, "forever", json!([])), budget);
        }
        assert_eq!(server.run(&cid, "answer", json!([])).result(), &json!(42));
        let metrics = server.metrics();
        assert_eq!(metrics.sum("void_wasm_runs_total", &[("status", "error")]), 3.0);
        assert_eq!(metrics.sum("void_wasm_resource_violations_total", &[]), 3.0);
    }
}

#[test]
fn several_endless_loops_at_once_each_end_within_their_cpu_budget() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "100").start();
    let cid = server.upload_guest("loop");
    let ids: Vec<_> =
        (0..6).map(|_| server.exec(json!({"target": {"cid": cid}, "entry": "forever"})).start()).collect();
    for id in ids {
        ended_on_its_cpu_budget(&server.wait_for(&id), 100);
    }
}

#[test]
fn a_loop_in_the_start_function_ends_within_its_cpu_budget() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "100").start();
    let cid = server.upload_guest("start_loop");
    for _ in 0..3 {
        ended_on_its_cpu_budget(&server.run(&cid, "answer", json!([])), 100);
    }
}

#[test]
fn a_trap_in_the_start_function_is_a_trap() {
    let server = Server::start();
    let cid = server.upload_guest("start_trap");
    server.run(&cid, "answer", json!([])).failed_with("trap");
}

#[test]
fn the_wall_budget_ends_what_the_cpu_budget_would_not() {
    let server =
        Server::builder().env("WASM_CPU_MS_BUDGET", "60000").env("WASM_WALL_MS_BUDGET", "300").start();
    let cid = server.upload_guest("loop");
    let run = server.run(&cid, "forever", json!([]));
    run.failed_with("wall_budget");
    assert!(run.usage("wall_ms") >= 299, "{}", run.record());
    assert!(run.usage("cpu_ms") <= run.usage("wall_ms") + 10, "{}", run.record());
}

#[test]
fn memory_grows_to_the_limit_and_no_further() {
    let server = Server::builder().env("WASM_MEM_PAGES_MAX", "64").start();
    let cid = server.upload_guest("memory");
    // A guest that takes the refusal for an answer goes on.
    let run = server.run(&cid, "until_refused", json!([]));
    assert_eq!(run.result(), &json!(64));
    assert_eq!(run.usage("mem_pages"), 64);
    let run = server.run(&cid, "touch_all", json!([]));
    assert_eq!(run.result(), &json!(64));
    assert_eq!(server.run(&cid, "grow", json!([63])).result(), &json!(1));
    assert_eq!(server.run(&cid, "grow", json!([64])).result(), &json!(-1));
    assert_eq!(server.run(&cid, "grow", json!([-1])).result(), &json!(-1));
    // One that dies of it, died of memory.
    server.run(&cid, "die_of_it", json!([])).failed_with("memory");
}

#[test]
fn the_largest_memory_can_be_used_to_its_last_page() {
    let server =
        Server::builder().env("WASM_MEM_PAGES_MAX", "1024").env("WASM_CPU_MS_BUDGET", "5000").start();
    let cid = server.upload_guest("memory");
    let run = server.run(&cid, "touch_all", json!([]));
    assert_eq!(run.result(), &json!(1024));
    assert_eq!(run.usage("mem_pages"), 1024);
}

#[test]
fn all_memories_of_a_run_share_the_limit() {
    let server = Server::builder().env("WASM_MEM_PAGES_MAX", "256").start();
    let cid = server.upload_guest("two_memories");
    assert_eq!(server.run(&cid, "grow_both", json!([28])).result(), &json!([100, 100]));
    assert_eq!(server.run(&cid, "grow_both", json!([29])).result(), &json!([100, -1]));
    assert_eq!(server.run(&cid, "grow_both", json!([57])).result(), &json!([-1, -1]));
}

#[test]
fn a_module_that_starts_with_more_memory_than_there_is_ends_in_memory() {
    let server = Server::start();
    let cid = server.upload_guest("too_many_pages");
    server.run(&cid, "answer", json!([])).failed_with("memory");
    let server = Server::builder().env("WASM_MEM_PAGES_MAX", "257").start();
    let cid = server.upload_guest("too_many_pages");
    assert_eq!(server.run(&cid, "answer", json!([])).result(), &json!(42));
}

#[test]
fn tables_are_bounded_too() {
    let server = Server::start();
    let big = server.upload_guest("big_table");
    server.run(&big, "answer", json!([])).failed_with("memory");
    let growing = server.upload_guest("growing_table");
    let elements = server.run(&growing, "until_refused", json!([])).result().as_u64().expect("a size");
    assert!(elements < 10_000_000, "grew to {elements} elements");
}

#[test]
fn recursion_without_end_ends_in_stack() {
    let server = Server::start();
    let cid = server.upload_guest("recursion");
    server.run(&cid, "deep", json!([0])).failed_with("stack");
    server.run(&cid, "indirect", json!([0])).failed_with("stack");
}

#[test]
fn each_trap_says_what_it_was() {
    let server = Server::start();
    let cid = server.upload_guest("traps");
    for (entry, word) in [
        ("divide_by_zero", "zero"),
        ("divide_overflow", "overflow"),
        ("unreachable", "unreachable"),
        ("out_of_bounds", "bounds"),
        ("null_call", "null|uninitialized"),
        ("wrong_type_call", "type|signature"),
        ("table_out_of_bounds", "bounds|undefined element"),
        ("bad_conversion", "conversion|convert"),
    ] {
        let run = server.run(&cid, entry, json!([]));
        let error = run.failed_with("trap").to_lowercase();
        assert!(word.split('|').any(|word| error.contains(word)), "{entry}: {error}");
        assert!(error.contains(entry), "the backtrace names the function: {error}");
    }
}

#[test]
fn a_trap_carries_the_names_of_all_functions_on_the_way() {
    let server = Server::start();
    let cid = server.upload_guest("traps");
    let run = server.run(&cid, "chain", json!([]));
    let error = run.failed_with("trap");
    let at = |name: &str| error.find(name).unwrap_or_else(|| panic!("no {name} in: {error}"));
    assert!(at("at_the_bottom") < at("in_the_middle"), "innermost first: {error}");
    assert!(!error.contains("/home") && !error.contains(".rs"), "only the guest's own frames: {error}");
}

#[test]
fn usage_tells_what_was_used() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "10000").start();
    let cid = server.upload_guest("loop");
    let run = server.run(&cid, "spin", json!([300_000_000]));
    run.result();
    assert!(run.usage("cpu_ms") >= 20, "{}", run.record());
    assert!(run.usage("wall_ms") + 5 >= run.usage("cpu_ms"), "{}", run.record());
    assert_eq!((run.usage("wait_ms"), run.usage("mem_pages"), run.usage("syscalls")), (0, 0, 0));
    let run = server.run(&cid, "answer", json!([]));
    assert!(run.usage("cpu_ms") <= 20, "{}", run.record());
}

#[test]
fn one_run_says_nothing_about_another() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "50").start();
    let add = server.upload_guest("add");
    let hostile = [
        ("loop", "forever"),
        ("start_loop", "answer"),
        ("memory", "die_of_it"),
        ("memory", "touch_all"),
        ("big_table", "answer"),
        ("traps", "divide_by_zero"),
        ("traps", "unreachable"),
    ]
    .map(|(name, entry)| (server.upload_guest(name), entry));
    let deep = server.upload_guest("recursion");
    server.run(&add, "add", json!([2, 3])).result();

    let good = Load::start(
        &server,
        2,
        move |_, turn| json!({"target": {"cid": add}, "entry": "add", "args": [turn, 1]}),
    );
    for _ in 0..5 {
        for (cid, entry) in &hostile {
            let run = server.run(cid, entry, json!([]));
            assert!(matches!(run.status(), "error" | "finished"), "{}", run.record());
        }
        server.run(&deep, "deep", json!([0])).failed_with("stack");
    }
    let outcomes = good.finish();
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), ["finished"], "{outcomes:?}");
    assert!(outcomes["finished"] > 10, "{outcomes:?}");
}

#[test]
fn more_runs_than_workers_wait_their_turn() {
    let server = Server::builder().env("WASM_WORKERS", "2").env("WASM_CPU_MS_BUDGET", "10000").start();
    let cid = server.upload_guest("loop");
    let ids: Vec<_> = (0..20)
        .map(|_| {
            let request = json!({"target": {"cid": cid}, "entry": "spin", "args": [20_000_000]});
            server.exec(request).start()
        })
        .collect();
    let mut ends = BTreeMap::new();
    for id in ids {
        *ends.entry(server.wait_for(&id).status().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(ends, [("finished".to_owned(), 20)].into());
}

#[test]
fn a_full_queue_refuses_and_stores_nothing() {
    let server = Server::builder()
        .env("WASM_WORKERS", "1")
        .env("WASM_QUEUE_MAX", "2")
        .env("WASM_CPU_MS_BUDGET", "1500")
        .start();
    let cid = server.upload_guest("loop");
    let request = json!({"target": {"cid": cid}, "entry": "forever"});
    let mut accepted = Vec::new();
    let refused = loop {
        let response = server.exec(request.clone()).send();
        if response.status != 202 {
            break response;
        }
        accepted.push(response.json()["run_id"].as_str().expect("an id").to_owned());
        assert!(accepted.len() < 12, "never full");
    };
    assert_eq!((refused.status, refused.problem().as_str()), (429, "queue_full"));
    assert!(refused.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok_and(|s| s >= 1)));
    assert!(refused.json().get("run_id").is_none(), "nothing is stored: {}", refused.text());
    for id in accepted {
        server.wait_for(&id).failed_with("cpu_budget");
    }
}
