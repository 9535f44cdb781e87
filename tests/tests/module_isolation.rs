//! `WASM_ISOLATION=module`: one process for many runs of a module, and for each run an instance in which nothing is left of
//! the one before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use void_tests::{Builder, Server, eventually, guest, wat};

const SOON: Duration = Duration::from_secs(10);

/// All that an instance can keep: a global, memory from a data segment, memory that was zero, memory that it grew by, a table, a
/// segment that it dropped. `look` says what of it is not as at the beginning, one bit each, and changes all of it.
const KEEPER: &str = r#"(module
  (memory (export "memory") 1 64)
  (data (i32.const 8) "abcd")
  (data $later "xyz")
  (table 2 20 funcref)
  (elem (i32.const 0) $one)
  (global $global (mut i64) (i64.const 7))
  (func $one (result i32) (i32.const 1))
  (func $bit (param $differs i32) (param $bit i32) (result i32)
    (select (local.get $bit) (i32.const 0) (local.get $differs)))
  (func (export "look") (result i32)
    (local $seen i32)
    (local.set $seen
      (i32.or (call $bit (i64.ne (global.get $global) (i64.const 7)) (i32.const 1))
      (i32.or (call $bit (i32.ne (i32.load (i32.const 8)) (i32.const 0x64636261)) (i32.const 2))
      (i32.or (call $bit (i32.load (i32.const 40000)) (i32.const 4))
      (i32.or (call $bit (i32.ne (memory.size) (i32.const 1)) (i32.const 8))
      (i32.or (call $bit (i32.ne (table.size) (i32.const 2)) (i32.const 16))
              (call $bit (i32.eqz (ref.is_null (table.get (i32.const 1)))) (i32.const 32))))))))
    ;; Memory that it grows by must be zero, whatever the last one wrote there.
    (if (i32.eq (memory.grow (i32.const 9)) (i32.const -1)) (then (unreachable)))
    (local.set $seen (i32.or (local.get $seen) (call $bit (i32.load (i32.const 300000)) (i32.const 64))))
    (i32.store (i32.const 300000) (i32.const -1))
    (i32.store (i32.const 40000) (i32.const -1))
    (i32.store (i32.const 8) (i32.const 0))
    (global.set $global (i64.const 8))
    (table.set (i32.const 1) (ref.func $one))
    (drop (table.grow (ref.func $one) (i32.const 5)))
    ;; Traps where it was dropped before.
    (memory.init $later (i32.const 16) (i32.const 0) (i32.const 3))
    (data.drop $later)
    (local.get $seen))
  (func (export "trap") (unreachable))
  (func (export "spin") (param $turns i32)
    (loop $again
      (local.set $turns (i32.sub (local.get $turns) (i32.const 1)))
      (br_if $again (local.get $turns))))
  (func (export "forever") (loop br 0)))"#;

fn module() -> Builder {
    Server::builder().env("WASM_ISOLATION", "module")
}

fn run_processes(server: &Server) -> BTreeSet<i32> {
    server.processes("void-run").iter().map(|process| process.pid).collect()
}

#[test]
fn one_process_serves_many_runs_and_nothing_is_left_between_them() {
    let server = module().start();
    assert_eq!(server.get("/v1/policy").json()["isolation"], "module");
    let cid = server.upload_wat(KEEPER);
    let mut client = server.connect();
    let request = json!({"target": {"cid": cid}, "entry": "look"}).to_string();
    let mut seen = BTreeSet::new();
    for number in 0..300 {
        // One connection, so one lane and one zygote.
        let answer =
            client.request("POST", "/v1/exec", &[("Prefer", "wait=10")], request.as_bytes()).unwrap().json();
        assert_eq!(answer["result"], 0, "run {number}: {answer}");
        if number >= 10 {
            seen.extend(run_processes(&server));
        }
    }
    // A process for each run would have shown many; a spare or two may be there beside the one in use.
    assert!(seen.len() <= 3, "{seen:?}");
    let started = server.metrics().sum("void_wasm_worker_starts_total", &[("role", "run")]);
    assert!(started < 30.0, "{started} run processes for 300 runs");
}

#[test]
fn the_default_is_a_process_for_each_run() {
    let server = Server::start();
    let cid = server.upload_wat(KEEPER);
    for _ in 0..30 {
        assert_eq!(server.run(&cid, "look", json!([])).result(), &json!(0));
    }
    assert!(server.metrics().sum("void_wasm_worker_starts_total", &[("role", "run")]) >= 30.0);
}

#[test]
fn after_a_trap_a_kill_or_a_full_stack_another_process_serves() {
    let server = module().env("WASM_CPU_MS_BUDGET", "50").start();
    let cid = server.upload_wat(KEEPER);
    for _ in 0..5 {
        assert_eq!(server.run(&cid, "look", json!([])).result(), &json!(0));
        server.run(&cid, "trap", json!([])).failed_with("trap");
        server.run(&cid, "forever", json!([])).failed_with("cpu_budget");
    }
    let recursion = server.upload_guest("recursion");
    for _ in 0..3 {
        server.run(&recursion, "deep", json!([1])).failed_with("stack");
    }
    for process in server.processes("void-run") {
        process.kill();
    }
    eventually("runs go on", SOON, || server.run(&cid, "look", json!([])).status() == "finished");
}

#[test]
fn each_run_has_its_own_budget_and_usage() {
    let server = module().env("WASM_CPU_MS_BUDGET", "400").start();
    let cid = server.upload_wat(KEEPER);
    // Together they use far more than one may.
    for _ in 0..12 {
        let run = server.run(&cid, "spin", json!([150_000_000]));
        assert_eq!(run.status(), "finished", "{}", run.record());
        assert!((1..400).contains(&run.usage("cpu_ms")), "{}", run.record());
    }
    let small = server.run(&cid, "look", json!([]));
    assert!(small.usage("cpu_ms") < 20, "what came before is not its: {}", small.record());
    assert_eq!(small.usage("mem_pages"), 10, "{}", small.record());
    let smaller = server.run(&cid, "spin", json!([1]));
    assert_eq!(smaller.usage("mem_pages"), 1, "{}", smaller.record());
}

#[test]
fn tenants_and_modules_share_no_process() {
    let mut tokens = NamedTempFile::new().unwrap();
    tokens.write_all(b"anna anna-token-0123456789abcdef\nbert bert-token-0123456789abcdef\n").unwrap();
    std::fs::set_permissions(tokens.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let server = module()
        .env("WASM_API_TOKENS_FILE", tokens.path().to_str().unwrap())
        .env("WASM_WORKERS", "8")
        .env("WASM_CPU_MS_BUDGET", "20000")
        .start();
    let modules = [wat(KEEPER), guest("loop")];
    let mut running = Vec::new();
    for who in ["anna", "bert"] {
        let token = format!("Bearer {who}-token-0123456789abcdef");
        for module in &modules {
            let headers = [("Authorization", token.as_str())];
            let cid = server.request("PUT", "/v1/modules", &headers, module).json()["cid"].clone();
            let exec = |entry: &str| {
                let request = json!({"target": {"cid": cid}, "entry": entry});
                server.exec(request).header("Authorization", &token)
            };
            let first = if module == &modules[0] { "look" } else { "answer" };
            assert_eq!(exec(first).header("Prefer", "wait=10").send().json()["status"], "finished");
            running.push((token.clone(), exec("forever").send().json()["run_id"].clone()));
        }
    }
    let busy = || {
        let processes = server.processes("void-run");
        processes.into_iter().filter(|process| process.cpu_ticks() >= 3).collect::<Vec<_>>()
    };
    eventually("all four run", SOON, || busy().len() == 4);
    let zygotes: BTreeSet<i32> = busy().iter().map(|run| run.parent().unwrap().pid).collect();
    assert_eq!(zygotes.len(), 4, "a zygote for each tenant and module");
    for (token, id) in running {
        let id = id.as_str().unwrap();
        let headers = [("Authorization", token.as_str())];
        assert_eq!(server.request("POST", &format!("/v1/runs/{id}/cancel"), &headers, &[]).status, 200);
    }
}

#[test]
fn programs_and_gateway_calls_begin_anew_each_time() {
    let server = module().env("WASM_CAPS", "emit,kv").start();
    let program = server.upload_guest("program");
    let mut numbers = BTreeSet::new();
    for number in 0..10 {
        let text = format!("number {number}");
        let request = json!({"target": {"cid": program}, "entry": "cat", "stdin": text});
        let run = server.exec(request).wait();
        assert_eq!(run.record()["stdout"], Value::from(text), "{}", run.record());
        let random = server.run(&program, "random", json!([]));
        assert!(
            numbers.insert(random.result().to_string()),
            "random numbers come twice: {}",
            random.record()
        );
    }
    let caller = server.upload(
        &void_tests::Caller::new()
            .code(
                r#"
  (func (export "count") (result i32)
    (i32.store8 (i32.const 256) (i32.const 107))
    (drop (call $kv_get (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512) (i32.const 4)))
    (i32.store (i32.const 512) (i32.add (i32.load (i32.const 512)) (i32.const 1)))
    (drop (call $kv_set (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512) (i32.const 4)))
    (i32.load (i32.const 512)))"#,
            )
            .build(),
    );
    for number in 1..=20 {
        let run = server.run(&caller, "count", json!([]));
        assert_eq!((run.result(), run.usage("syscalls")), (&json!(number), 2), "{}", run.record());
    }
}

#[test]
fn several_memories_and_tables_begin_anew_too() {
    let server = module().start();
    let cid = server.upload_wat(
        r#"(module (memory 1) (memory $second 2) (table 3 funcref) (table $other 4 funcref)
            (elem declare func $count)
            (func $count (export "count") (result i32)
              (i32.store $second (i32.const 100000) (i32.add (i32.load $second (i32.const 100000)) (i32.const 1)))
              (table.set $other (i32.const 3) (ref.func $count))
              (i32.load $second (i32.const 100000))))"#,
    );
    for _ in 0..20 {
        assert_eq!(server.run(&cid, "count", json!([])).result(), &json!(1));
    }
    assert!(server.metrics().sum("void_wasm_worker_starts_total", &[("role", "run")]) < 15.0);
}

#[test]
fn a_module_with_more_memories_than_there_are_places_gets_a_process_for_each_run() {
    let server = module().start();
    let cid = server.upload_wat(
        r#"(module (memory 1) (memory 1) (memory 1) (memory 1) (memory $last 1)
            (func (export "count") (result i32)
              (i32.store $last (i32.const 0) (i32.add (i32.load $last (i32.const 0)) (i32.const 1)))
              (i32.load $last (i32.const 0))))"#,
    );
    for _ in 0..10 {
        assert_eq!(server.run(&cid, "count", json!([])).result(), &json!(1));
    }
    assert!(server.metrics().sum("void_wasm_worker_starts_total", &[("role", "run")]) >= 10.0);
}
