//! `emit`: what a guest says is an event of its run, in order with the run's own, and as durable as they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::time::Duration;

use serde_json::json;
use void_tests::{Caller, Events, Server, eventually};

const SOON: Duration = Duration::from_secs(20);

/// `many(n, bytes)` emits that many events of that many bytes, each with its number in front, and returns the first code
/// that is not 0, or 0. `then_spin` emits one and computes for ever; `then_trap` emits one and traps.
fn emitter() -> Vec<u8> {
    let mut caller = Caller::new();
    let (name, odd) = (caller.bytes(b"progress"), caller.bytes(&[0xff, 0, 0x80]));
    let tricky = caller.bytes("\"quoted\"\n\\ \u{1f980} \u{0}".as_bytes());
    caller
        .code(&format!(
            r#"
  (func (export "many") (param $n i32) (param $bytes i32) (result i32) (local $i i32) (local $code i32)
    (memory.fill (i32.const 0x100000) (i32.const 0x2e) (local.get $bytes))
    (block $end (loop $again
      (br_if $end (i32.ge_u (local.get $i) (local.get $n)))
      (call $number (local.get $i))
      (local.set $code (call $emit {name} (i32.const 0x100000) (local.get $bytes)))
      (br_if $end (local.get $code))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $again)))
    (local.get $code))
  (func $number (param $i i32) (local $at i32)
    (local.set $at (i32.const 0x100006))
    (loop $digits
      (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $i) (i32.const 10))))
      (local.set $i (i32.div_u (local.get $i) (i32.const 10)))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (br_if $digits (i32.ge_u (local.get $at) (i32.const 0x100000)))))
  (func (export "then_spin") (drop (call $emit {name} {name})) (loop (br 0)))
  (func (export "then_trap") (drop (call $emit {name} {name})) unreachable)
  (func (export "odd") (result i32) (call $emit {name} {odd}))
  (func (export "tricky") (result i32) (call $emit {name} {tricky}))
  (func (export "nothing") (result i32) (call $emit {name} (i32.const 0) (i32.const 0)))
  (func (export "nameless") (result i32) (call $emit (i32.const 0) (i32.const 0) {name}))
  (func (export "broken_name") (result i32) (call $emit {odd} {name}))
"#
        ))
        .build()
}

#[test]
fn events_come_in_order_between_the_runs_own() {
    let server = Server::builder().env("WASM_SYSCALL_RPS", "100000").start();
    let cid = server.upload(&emitter());
    let mut events = Events::follow(&server, "", None);
    for count in [0, 1, 7, 500] {
        let run = server.run(&cid, "many", json!([count, 100]));
        assert_eq!((run.result(), run.usage("syscalls")), (&json!(0), count));
        let mut last = 0;
        for expected in 0..count + 2 {
            let event = events.next(SOON).expect("an event");
            assert!(event.id > last && event.run_id() == run.id());
            last = event.id;
            let kind = match expected {
                0 => "wasm.exec.started",
                n if n == count + 1 => "wasm.exec.finished",
                n => {
                    let data = &event.data["data"];
                    assert_eq!(data["event"], "progress");
                    let text = data["data"].as_str().expect("text");
                    assert_eq!((text.len(), &text[..7]), (100, &*format!("{:07}", n - 1)));
                    assert_eq!(event.data["specversion"], "1.0");
                    assert!(event.data["source"].as_str().unwrap().starts_with("/void-wasm/"));
                    "wasm.guest.emit"
                }
            };
            assert_eq!(event.kind(), kind);
        }
    }
    let calls = [("kind", "emit"), ("decision", "allow")];
    assert_eq!(server.metrics().sum("void_wasm_syscalls_total", &calls), 508.0);
}

#[test]
fn any_bytes_are_told_as_they_are() {
    let server = Server::start();
    let cid = server.upload(&emitter());
    for (entry, expected) in [
        ("odd", &[0xff, 0, 0x80][..]),
        ("tricky", "\"quoted\"\n\\ \u{1f980} \u{0}".as_bytes()),
        ("nothing", b""),
    ] {
        let run = server.run(&cid, entry, json!([]));
        assert_eq!(run.result(), &json!(0));
        assert_eq!(server.emitted(run.id()), [("progress".to_owned(), expected.to_vec())]);
    }
    // 64 KiB and no more.
    assert_eq!(server.run(&cid, "many", json!([1, 65_536])).result(), &json!(0));
    for (entry, arguments, code, rule) in [
        ("nameless", json!([]), -4, "bad_name"),
        ("broken_name", json!([]), -4, "bad_name"),
        ("many", json!([1, 65_537]), -3, "too_large"),
    ] {
        let run = server.run(&cid, entry, arguments);
        assert_eq!((run.result(), run.usage("syscalls")), (&json!(code), 1), "{entry}");
        assert_eq!(run.record()["denials"][0]["rule"], rule, "{entry}");
        assert!(server.emitted(run.id()).is_empty(), "{entry}");
    }
}

#[test]
fn what_was_said_before_the_end_is_heard_however_it_ends() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "100").start();
    let cid = server.upload(&emitter());
    for (entry, reason) in [("then_trap", "trap"), ("then_spin", "cpu_budget")] {
        let run = server.run(&cid, entry, json!([]));
        run.failed_with(reason);
        assert_eq!(server.emitted(run.id()).len(), 1, "{entry}");
    }
}

#[test]
fn a_run_is_heard_while_it_goes_on_and_after_the_service_was_killed() {
    let server =
        Server::builder().env("WASM_CPU_MS_BUDGET", "60000").env("WASM_WALL_MS_BUDGET", "60000").start();
    let cid = server.upload(&emitter());
    let id = server.exec(json!({"target": {"cid": cid}, "entry": "then_spin"})).start();
    let mut events = Events::follow(&server, &format!("?run_id={id}&type=wasm.guest.emit"), Some(0));
    assert_eq!(events.next(SOON).expect("the event of a run that goes on").run_id(), id);
    drop(events);
    let server = server.restart();
    server.wait_for(&id).failed_with("interrupted");
    assert_eq!(server.emitted(&id).len(), 1, "what was stored survives");
}

#[test]
fn a_run_that_nobody_was_told_of_yet_is_heard_too() {
    // Its client waits, so that it is stored late: after a moment, with what it said until then.
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "1000").start();
    let cid = server.upload(&emitter());
    let run = server.exec(json!({"target": {"cid": cid}, "entry": "then_spin"})).wait();
    run.failed_with("cpu_budget");
    assert_eq!(server.emitted(run.id()).len(), 1);
}

#[test]
fn a_flood_of_large_events_takes_no_memory_and_loses_none() {
    let server = Server::builder()
        .env("WASM_SYSCALL_RPS", "100000")
        .env("WASM_CPU_MS_BUDGET", "20000")
        .env("WASM_WORKERS", "4")
        .start();
    let cid = server.upload(&emitter());
    server.run(&cid, "many", json!([10, 65_536])).result();
    let before = server.process().kib("VmRSS");
    let ids: Vec<_> = (0..4)
        .map(|_| {
            server.exec(json!({"target": {"cid": cid}, "entry": "many", "args": [1000, 65_536]})).start()
        })
        .collect();
    let mut most = before;
    eventually("all four have emitted 62 MiB each", Duration::from_secs(120), || {
        most = most.max(server.process().kib("VmRSS"));
        ids.iter().all(|id| server.look_up(id).status() == "finished")
    });
    assert!(most < before + 96 * 1024, "{before} KiB, then {most} KiB for 250 MiB of events");
    assert_eq!(server.emitted(&ids[0]).len(), 1000);
}

#[test]
fn a_run_may_store_so_much_of_events_and_no_more() {
    let server = Server::builder()
        .env("WASM_SYSCALL_RPS", "100000")
        .env("WASM_CPU_MS_BUDGET", "20000")
        .env("WASM_WALL_MS_BUDGET", "60000")
        .start();
    let mut caller = Caller::new();
    let name = caller.bytes(b"flood");
    // Each byte of it has six as JSON.
    let flood = format!(
        r#"(func (export "flood") (param $n i32) (result i32 i32) (local $done i32) (local $code i32)
          (memory.fill (i32.const 0x100000) (i32.const 1) (i32.const 65536))
          (loop $again
            (local.set $code (call $emit {name} (i32.const 0x100000) (i32.const 65536)))
            (local.set $done (i32.add (local.get $done) (i32.eqz (local.get $code))))
            (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
          (local.get $done) (local.get $code))"#
    );
    let cid = server.upload(&caller.code(&flood).build());
    let run = server.run(&cid, "flood", json!([1000]));
    // 64 MiB: of so many times six, the name, and 128 for the event.
    let most = (64 << 20) / (6 * 65_536 + 5 + 128);
    assert_eq!(run.result(), &json!([most, -1]), "{}", run.record());
    let denials = run.record()["denials"].as_array().unwrap();
    assert_eq!((denials.len(), &denials[0]["rule"]), (1, &json!("emit_budget")), "{denials:?}");
    assert_eq!(denials[0]["count"], json!(1000 - most));
    assert!(denials[0]["remedy"].as_str().unwrap().contains("emit less"), "{denials:?}");
    server.logs(&["denied", "emit_budget", run.id()]);
    let labels = [("cap", "emit"), ("reason", "emit_budget")];
    assert_eq!(server.metrics().sum("void_wasm_policy_denied_total", &labels), (1000 - most) as f64);
    assert_eq!(server.emitted(run.id()).len(), usize::try_from(most).unwrap());
    // What lies on the disk, log and database together, is in proportion: without the bound it was 390 MB.
    let stored: u64 = std::fs::read_dir(server.home().join("state"))
        .unwrap()
        .filter_map(|file| file.ok()?.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|file| file.len())
        .sum();
    assert!((64 << 20..160 << 20).contains(&stored), "{stored} bytes");
    // The next run has its own.
    assert_eq!(server.run(&cid, "flood", json!([1])).result(), &json!([1, 0]));
}

#[test]
fn without_the_cap_it_is_denied_and_said_so() {
    let server = Server::builder().env("WASM_CAPS", "kv").start();
    let cid = server.upload(&emitter());
    let run = server.run(&cid, "nothing", json!([]));
    assert_eq!(run.result(), &json!(-1), "a code, not the end of the run");
    assert!(server.emitted(run.id()).is_empty());
    let denial = &run.record()["denials"][0];
    assert_eq!(
        (&denial["kind"], &denial["rule"], &denial["count"]),
        (&json!("emit"), &json!("cap_missing"), &json!(1))
    );
    assert!(denial["remedy"].as_str().unwrap().contains("WASM_CAPS"));
    let mut events = Events::follow(&server, &format!("?run_id={}&type=wasm.exec.finished", run.id()), None);
    assert_eq!(events.next(SOON).expect("the end").data["data"]["denials"][0]["rule"], "cap_missing");
    server.logs(&["denied", "cap_missing", "WASM_CAPS", run.id()]);
    let metrics = server.metrics();
    assert_eq!(
        metrics.sum("void_wasm_policy_denied_total", &[("cap", "emit"), ("reason", "cap_missing")]),
        1.0
    );
    assert_eq!(metrics.sum("void_wasm_syscalls_total", &[("kind", "emit"), ("decision", "deny")]), 1.0);
}
