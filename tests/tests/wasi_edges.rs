//! WASI preview 1 where programs seldom come: lines before a kill, initialisations that are none, exits before the entry,
//! imports as entries, and numbers without a name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use serde_json::json;
use void_tests::Server;

const BADF: i64 = 8;
const INVAL: i64 = 28;

/// A module that writes these pieces, each with a call of its own, and then computes for ever.
fn writer(pieces: &[String]) -> String {
    let (mut data, mut code, mut at) = (String::new(), String::new(), 1024);
    for piece in pieces {
        let hex: String = piece.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        data += &format!("(data (i32.const {at}) \"{hex}\")");
        code += &format!("(call $write (i32.const {at}) (i32.const {}))", piece.len());
        at += piece.len();
    }
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 8) {data}
          (func $write (param $at i32) (param $length i32)
            (loop $again
              (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $length))
              (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
              (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
              (br_if $again (local.tee $length (i32.sub (local.get $length) (i32.load (i32.const 8)))))))
          (func (export "go") {code} (loop $forever (br $forever))))"#
    )
}

#[test]
fn a_run_that_is_killed_keeps_every_full_line_however_it_was_written() {
    let server =
        Server::builder().env("WASM_OUTPUT_MAX_BYTES", "1000000").env("WASM_CPU_MS_BUDGET", "50").start();
    let long = "x".repeat(100_000);
    for pieces in [
        vec!["hello\nworld".to_owned()],
        vec!["hello\n".to_owned(), "world".to_owned()],
        vec!["hel".to_owned(), "lo\n\nwo".to_owned(), "rld".to_owned()],
        vec![format!("first\n{long}\nlast\nopen")],
        vec!["y".repeat(1_000), format!("{long}\n{long}\nopen")],
    ] {
        let ran = server.run(&server.upload_wat(&writer(&pieces)), "go", json!([]));
        ran.failed_with("cpu_budget");
        let (all, kept) = (pieces.concat(), ran.record()["stdout"].as_str().unwrap().to_owned());
        let lines = all.rfind('\n').unwrap() + 1;
        assert!(all.starts_with(&kept), "{} bytes of {}", kept.len(), all.len());
        assert!(kept.len() >= lines, "{} bytes of {lines} are kept", kept.len());
    }
}

/// A module with `_start` and `_initialize`, and `calls`, which says in its digits what was called before: 1 is the start
/// function, 2 `_initialize`.
const BOTH: &str = r#"(module
  (import "wasi_snapshot_preview1" "sched_yield" (func $sched_yield (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (global $calls (mut i32) (i32.const 0))
  (func $note (param i32)
    (global.set $calls (i32.add (i32.mul (global.get $calls) (i32.const 10)) (local.get 0))))
  (start $begin)
  (func $begin (call $note (i32.const 1)))
  (func (export "_initialize") (call $note (i32.const 2)))
  (func (export "_start") (call $exit (global.get $calls)))
  (func (export "calls") (result i32) (global.get $calls)))"#;

#[test]
fn a_module_that_is_command_and_reactor_is_each_as_it_is_asked() {
    let server = Server::start();
    let cid = server.upload_wat(BOTH);
    assert_eq!(server.run(&cid, "calls", json!([])).result(), &json!(12));
    let command = server.exec(json!({"target": {"cid": cid}})).wait();
    command.failed_with("exit");
    assert_eq!(command.record()["exit_code"], 1, "a command initialises itself: {}", command.record());
    assert_eq!(server.run(&cid, "_initialize", json!([])).result(), &json!(null));
}

#[test]
fn an_initialisation_that_cannot_be_called_is_refused_and_not_skipped() {
    for canary in ["1", "0"] {
        let server = Server::builder().env("WASM_EXEC_CANARY", canary).start();
        for ty in ["(param i32)", "(result i32)"] {
            let value = if ty.contains("result") { "(i32.const 0)" } else { "" };
            let cid = server.upload_wat(&format!(
                r#"(module (func (export "_initialize") {ty} {value}) (func (export "go")) (func (export "_start")))"#
            ));
            let ran = server.run(&cid, "go", json!([]));
            ran.failed_with("module_invalid");
            assert!(ran.error().contains("_initialize"), "{}", ran.error());
            // Where it is not called before, it does not matter.
            assert_eq!(server.run(&cid, "_start", json!([])).status(), "finished");
            let arguments = if ty.contains("param") { json!([1]) } else { json!([]) };
            assert_eq!(server.run(&cid, "_initialize", arguments).status(), "finished");
        }
    }
}

#[test]
fn an_exit_before_the_entry_is_no_success() {
    let server = Server::start();
    let exiting = |before: &str, code: i32| {
        let cid = server.upload_wat(&format!(
            r#"(module
              (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
              (memory (export "memory") 1)
              (func $before (call $exit (i32.const {code})))
              {before}
              (func (export "go") (result i32) (i32.const 7)))"#
        ));
        server.run(&cid, "go", json!([]))
    };
    for (before, name) in [
        (r#"(export "_initialize" (func $before))"#, "_initialize"),
        ("(start $before)", "its start function"),
    ] {
        let ran = exiting(before, 0);
        let said = ran.failed_with("trap");
        assert!(said.contains(&format!("code 0 in {name}")) && said.contains("never called"), "{said}");
        assert_eq!(ran.record().get("exit_code"), None, "{}", ran.record());
        let ran = exiting(before, 5);
        ran.failed_with("exit");
        assert_eq!(ran.record()["exit_code"], 5);
    }
}

#[test]
fn a_function_of_wasi_can_be_the_entry_or_says_why_not() {
    let server = Server::start();
    let passing_on = |memory: &str| {
        server.upload_wat(&format!(
            r#"(module
              (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
              (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
              (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
              (memory (export "{memory}") 1)
              (export "random" (func $random)) (export "prestat" (func $prestat)) (export "exit" (func $exit))
              (func (export "inside") (result i32) (call $prestat (i32.const 3) (i32.const 8))))"#
        ))
    };
    let cid = passing_on("memory");
    assert_eq!(server.run(&cid, "random", json!([0, 8])).result(), &json!(0));
    assert_eq!(server.run(&cid, "exit", json!([7])).record()["exit_code"], 7);
    assert_eq!(server.run(&cid, "inside", json!([])).result(), &json!(BADF));
    let ran = server.run(&cid, "prestat", json!([3, 8]));
    let said = ran.failed_with("trap");
    assert!(said.contains("exports again") && said.contains("export a function that calls it"), "{said}");
    // Where there is no memory of that name, that is what is said.
    let cid = passing_on("memories");
    for (entry, arguments) in [("random", json!([0, 8])), ("inside", json!([])), ("prestat", json!([3, 8]))] {
        let ran = server.run(&cid, entry, arguments);
        assert!(ran.failed_with("trap").contains("exports no memory named \"memory\""), "{}", ran.error());
    }
}

#[test]
fn in_a_poll_too_a_number_without_a_name_is_a_trap() {
    let server = Server::start();
    // One subscription at 0: its kind at 8, a clock or a descriptor at 16, no timeout, flags at 40. The event's error.
    let cid = server.upload_wat(
        r#"(module
          (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
          (memory (export "memory") 1)
          (func $one (export "one") (param $kind i32) (param $what i32) (param $flags i32) (result i32)
            (i32.store8 (i32.const 8) (local.get $kind))
            (i32.store (i32.const 16) (local.get $what))
            (i32.store16 (i32.const 40) (local.get $flags))
            (if (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)) (then unreachable))
            (if (i32.ne (i32.load (i32.const 128)) (i32.const 1)) (then unreachable))
            (i32.load16_u (i32.const 72)))
          (func (export "closed") (result i32)
            (if (call $close (i32.const 0)) (then unreachable))
            (call $one (i32.const 1) (i32.const 0) (i32.const 0))))"#,
    );
    for (kind, what, flags, error) in [
        (0, 0, 0, 0),
        (0, 1, 1, 0),
        (0, 2, 0, INVAL),
        (0, 3, 0, INVAL),
        (1, 0, 0, 0),
        (1, 1, 0, BADF),
        (2, 2, 0, 0),
        (2, 3, 0, BADF),
    ] {
        let ran = server.run(&cid, "one", json!([kind, what, flags]));
        assert_eq!(ran.result(), &json!(error), "{kind} {what} {flags}");
    }
    for (kind, what, flags, said) in [
        (0, 4, 0, "a clock 4"),
        (0, -1, 0, "a clock"),
        (3, 0, 0, "a kind of event 3"),
        (0, 1, 2, "the flags 2"),
    ] {
        let ran = server.run(&cid, "one", json!([kind, what, flags]));
        assert!(ran.failed_with("trap").contains(said), "{}", ran.error());
    }
    assert_eq!(server.run(&cid, "closed", json!([])).result(), &json!(0), "ready, as the page says");
}
