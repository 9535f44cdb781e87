//! The functions that a core module may import, as `docs/abi.md` says: what stops the guest, and what is refused because
//! it cannot be sent. What the gateway does with what can is in `gateway_*`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use void_tests::Server;

const DENIED: i64 = -1;
const TOO_LARGE: i64 = -3;
const INVALID: i64 = -4;
const NOT_FOUND: i64 = -5;

/// Bytes of the guest's memory.
const END: i64 = 4 * 65_536;

/// A function, arguments with which it is called by right, and where its pairs of pointer and length are.
const FUNCTIONS: &[(&str, &[i64], &[usize])] = &[
    ("emit", &[0, 5, 0, 5], &[0, 2]),
    ("kv_get", &[0, 0, 0, 5, 1024, 64], &[0, 2, 4]),
    ("kv_set", &[0, 0, 0, 5, 0, 5], &[0, 2, 4]),
    ("kv_delete", &[0, 0, 0, 5], &[0, 2]),
    ("http_fetch", &[128, 3, 0, 5, 160, 5, 0, 5], &[0, 2, 4, 6]),
    ("http_headers", &[1024, 64], &[0]),
    ("http_body", &[0, 1024, 64], &[1]),
];

#[test]
fn what_reaches_beyond_the_memory_stops_the_guest_whatever_it_is() {
    let server = Server::start();
    let cid = server.upload_guest("abi");
    for (function, arguments, pairs) in FUNCTIONS {
        for pair in *pairs {
            for (pointer, length) in [
                (END, 1),
                (END - 1, 2),
                (0, END + 1),
                (0, -1),
                (-1, 1),
                (-1, -1),
                (i64::from(i32::MIN), i64::from(i32::MIN)),
                (i64::from(i32::MAX), i64::from(i32::MAX)),
            ] {
                let mut arguments = arguments.to_vec();
                (arguments[*pair], arguments[*pair + 1]) = (pointer, length);
                let run = server.run(&cid, function, json!(arguments));
                let what = format!("{function}{arguments:?}: {}", run.record());
                assert_eq!(run.reason(), "trap", "{what}");
                for words in [&format!("void.{function}"), "beyond the memory", "backtrace"] {
                    assert!(run.error().contains(words), "no word of {words}: {what}");
                }
                assert_eq!(run.usage("syscalls"), 0, "{what}");
            }
        }
    }
}

#[test]
fn nothing_at_the_very_end_of_the_memory_is_within_it() {
    let server = Server::start();
    let cid = server.upload_guest("abi");
    assert_eq!(server.run(&cid, "http_headers", json!([END, 0])).result(), &json!(NOT_FOUND));
    assert_eq!(server.run(&cid, "http_body", json!([0, END, 0])).result(), &json!(NOT_FOUND));
}

/// What cannot be sent as it is: function, arguments, code, the rule that refuses, and a word of the reason and of the remedy.
#[rustfmt::skip]
fn unfit() -> Vec<(&'static str, Value, i64, &'static str, &'static str, &'static str)> {
    // 64: bytes that are no UTF-8, none of their beginnings either.
    vec![
        ("emit", json!([0, 257, 0, 0]), TOO_LARGE, "too_large", "event's name has 257 bytes", "256"),
        ("emit", json!([0, 5, 0, 65_537]), TOO_LARGE, "too_large", "event's data has 65537 bytes", "65536"),
        ("emit", json!([0, 5, 0, END]), TOO_LARGE, "too_large", "event's data has 262144 bytes", "65536"),
        ("emit", json!([64, 1, 0, 0]), INVALID, "bad_name", "event's name is not UTF-8", "256"),
        ("emit", json!([64, 7, 0, 0]), INVALID, "bad_name", "event's name is not UTF-8", "UTF-8"),
        ("kv_get", json!([0, 257, 0, 5, 0, 0]), TOO_LARGE, "too_large", "namespace has 257 bytes", "64"),
        ("kv_get", json!([0, 0, 0, 257, 0, 0]), TOO_LARGE, "too_large", "key has 257 bytes", "256"),
        ("kv_get", json!([64, 2, 0, 5, 0, 0]), INVALID, "bad_name", "namespace is not UTF-8", "letters"),
        ("kv_get", json!([0, 0, 66, 2, 0, 0]), INVALID, "bad_name", "key is not UTF-8", "UTF-8"),
        ("kv_set", json!([0, 0, 0, 257, 0, 0]), TOO_LARGE, "too_large", "key has 257 bytes", "256"),
        ("kv_set", json!([0, 0, 0, 5, 0, 131_073]), TOO_LARGE, "too_large", "value has 131073 bytes", "4096"),
        ("kv_set", json!([64, 2, 0, 5, 0, 0]), INVALID, "bad_name", "namespace is not UTF-8", "letters"),
        ("kv_set", json!([0, 0, 68, 3, 0, 0]), INVALID, "bad_name", "key is not UTF-8", "UTF-8"),
        ("kv_delete", json!([0, 0, 0, 257]), TOO_LARGE, "too_large", "key has 257 bytes", "256"),
        ("kv_delete", json!([0, 0, 64, 2]), INVALID, "bad_name", "key is not UTF-8", "UTF-8"),
        ("http_fetch", json!([128, 3, 0, 8193, 0, 0, 0, 0]), TOO_LARGE, "too_large", "URL has 8193 bytes", "8192"),
        ("http_fetch", json!([128, 3, 0, 5, 0, 16_385, 0, 0]), TOO_LARGE, "too_large", "text has 16385 bytes", "16384"),
        ("http_fetch", json!([128, 3, 0, 5, 0, 0, 0, 131_073]), TOO_LARGE, "too_large", "body has 131073 bytes", "131072"),
        ("many_headers", json!([]), TOO_LARGE, "too_large", "has 65 lines", "64 lines"),
        ("http_fetch", json!([64, 2, 0, 5, 0, 0, 0, 0]), INVALID, "method", "method is not UTF-8", "GET"),
        ("http_fetch", json!([0, 33, 0, 5, 0, 0, 0, 0]), INVALID, "method", "method has 33 bytes", "GET"),
        ("http_fetch", json!([128, 3, 64, 2, 0, 0, 0, 0]), INVALID, "bad_url", "URL is not UTF-8", "https://"),
        ("http_fetch", json!([128, 3, 0, 5, 192, 8, 0, 0]), INVALID, "bad_header", "name: value", "colon"),
        ("http_fetch", json!([128, 3, 0, 5, 224, 4, 0, 0]), INVALID, "bad_header", "name: value", "line feed"),
        ("http_fetch", json!([128, 3, 0, 5, 240, 5, 0, 0]), INVALID, "bad_header", "name: value", "name"),
    ]
}

fn kind(function: &str) -> &'static str {
    match function {
        "emit" => "emit",
        "kv_get" => "kv.get",
        "kv_set" => "kv.set",
        "kv_delete" => "kv.delete",
        _ => "http.fetch",
    }
}

#[test]
fn what_cannot_be_sent_is_a_call_that_is_counted_refused_and_told() {
    let server = Server::builder().env("WASM_CAPS", "emit,http,kv").start();
    let cid = server.upload_guest("abi");
    let (mut decisions, mut rules) = (BTreeMap::new(), BTreeMap::new());
    for (function, arguments, code, rule, reason, remedy) in unfit() {
        let run = server.run(&cid, function, arguments.clone());
        let what = format!("{function}{arguments}: {}", run.record());
        assert_eq!((run.result(), run.usage("syscalls")), (&json!(code), 1), "{what}");
        let [denial] = &run.record()["denials"].as_array().expect("denials")[..] else { panic!("{what}") };
        assert_eq!(
            (&denial["kind"], &denial["rule"], &denial["count"]),
            (&json!(kind(function)), &json!(rule), &json!(1)),
            "{what}"
        );
        assert!(denial["reason"].as_str().unwrap().contains(reason), "{what}");
        assert!(denial["remedy"].as_str().unwrap().contains(remedy), "{what}");
        server.logs(&["denied", rule, reason, run.id()]);
        *decisions.entry(kind(function)).or_insert(0.0) += 1.0;
        let cap = kind(function).split('.').next().unwrap();
        *rules.entry((cap, rule)).or_insert(0.0) += 1.0;
    }
    let metrics = server.metrics();
    for (kind, count) in decisions {
        let labels = [("kind", kind), ("decision", "deny")];
        assert_eq!(metrics.sum("void_wasm_syscalls_total", &labels), count, "{kind}");
    }
    for ((cap, rule), count) in rules {
        let labels = [("cap", cap), ("reason", rule)];
        assert_eq!(metrics.sum("void_wasm_policy_denied_total", &labels), count, "{cap} {rule}");
    }
}

#[test]
fn what_is_not_granted_is_refused_for_that_whatever_it_carries() {
    let server = Server::builder().env("WASM_CAPS", "").start();
    let cid = server.upload_guest("abi");
    for (function, arguments, ..) in unfit() {
        let run = server.run(&cid, function, arguments.clone());
        assert_eq!((run.result(), run.usage("syscalls")), (&json!(DENIED), 1), "{function}{arguments}");
        assert_eq!(run.record()["denials"][0]["rule"], "cap_missing", "{function}{arguments}");
    }
}

#[test]
fn what_only_reads_what_was_fetched_is_no_call() {
    let server = Server::start();
    let cid = server.upload_guest("abi");
    for (function, arguments) in [
        ("http_headers", json!([0, 64])),
        ("http_body_len", json!([])),
        ("http_body", json!([0, 0, 64])),
        ("http_body", json!([-1, 0, 64])),
    ] {
        let run = server.run(&cid, function, arguments.clone());
        assert_eq!((run.result(), run.usage("syscalls")), (&json!(NOT_FOUND), 0), "{function}{arguments}");
    }
}

#[test]
fn a_guest_that_shows_no_memory_cannot_call() {
    let server = Server::start();
    for memory in
        ["", "(memory 1)", "(memory (export \"mem\") 1)", "(global (export \"memory\") i32 (i32.const 0))"]
    {
        let cid = server.upload_wat(&format!(
            "(module (import \"void\" \"emit\" (func $emit (param i32 i32 i32 i32) (result i32))) {memory}
               (func (export \"go\") (result i32)
                 (call $emit (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
               (func (export \"answer\") (result i32) (i32.const 42)))"
        ));
        let run = server.run(&cid, "go", json!([]));
        run.failed_with("trap");
        assert!(run.error().contains("no memory named \"memory\""), "{memory}: {}", run.error());
        assert_eq!(server.run(&cid, "answer", json!([])).result(), &json!(42), "{memory}");
    }
}

#[test]
fn of_two_memories_the_one_that_is_shown_counts() {
    let server = Server::start();
    for (first, second, reaches) in [("", "(export \"memory\")", true), ("(export \"memory\")", "", false)] {
        let cid = server.upload_wat(&format!(
            "(module (import \"void\" \"emit\" (func $emit (param i32 i32 i32 i32) (result i32)))
               (memory $first {first} 1) (memory $second {second} 2)
               (func (export \"go\") (result i32)
                 (call $emit (i32.const 65536) (i32.const 300) (i32.const 0) (i32.const 0))))"
        ));
        let run = server.run(&cid, "go", json!([]));
        if reaches {
            assert_eq!(run.result(), &json!(TOO_LARGE));
        } else {
            run.failed_with("trap");
        }
        assert_eq!(run.usage("mem_pages"), 3);
    }
}

#[test]
fn a_function_of_the_host_shown_as_the_guests_own_uses_the_guests_memory() {
    let server = Server::builder().env("WASM_CAPS", "emit,kv").start();
    let passing_on = |memory: &str| {
        server.upload_wat(&format!(
            r#"(module (import "void" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
               (import "void" "kv_get" (func $get (param i32 i32 i32 i32 i32 i32) (result i32)))
               (memory (export "{memory}") 1) (data (i32.const 0) "name")
               (export "emit" (func $emit)) (export "get" (func $get)))"#
        ))
    };
    let cid = passing_on("memory");
    let run = server.run(&cid, "emit", json!([0, 4, 0, 4]));
    assert_eq!((run.result(), run.usage("syscalls")), (&json!(0), 1));
    assert_eq!(server.emitted(run.id()), [("name".to_owned(), b"name".to_vec())]);
    assert_eq!(server.run(&cid, "get", json!([0, 0, 0, 4, 16, 16])).result(), &json!(NOT_FOUND));
    let run = server.run(&cid, "emit", json!([0, 4, 65_535, 2]));
    assert!(run.failed_with("trap").contains("beyond the memory"), "{}", run.error());
    let run = server.run(&passing_on("memories"), "emit", json!([0, 4, 0, 4]));
    assert!(run.failed_with("trap").contains("no memory named \"memory\""), "{}", run.error());
}

#[test]
fn an_import_that_is_not_offered_is_named() {
    let server = Server::start();
    for (import, name) in [
        ("\"void\" \"nothing\" (func)", "void.nothing"),
        ("\"void\" \"emit\" (func (param i32))", "void.emit"),
        ("\"void\" \"emit\" (func (param i32 i32 i32 i64) (result i32))", "void.emit"),
        ("\"void\" \"emit\" (func (param i32 i32 i32 i32))", "void.emit"),
        ("\"void\" \"emit\" (memory 1)", "void.emit"),
        ("\"Void\" \"emit\" (func (param i32 i32 i32 i32) (result i32))", "Void.emit"),
        ("\"wasi_snapshot_preview1\" \"fd_magic\" (func)", "wasi_snapshot_preview1.fd_magic"),
        (
            "\"wasi_snapshot_preview1\" \"fd_write\" (func (param i32) (result i32))",
            "wasi_snapshot_preview1.fd_write",
        ),
        (
            "\"wasi_unstable\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32))",
            "wasi_unstable.fd_write",
        ),
        ("\"env\" \"memory\" (memory 1)", "env.memory"),
    ] {
        let cid = server.upload_wat(&format!("(module (import {import}) (func (export \"go\")))"));
        let run = server.run(&cid, "go", json!([]));
        run.failed_with("module_invalid");
        assert!(run.error().contains(name), "{import}: {}", run.error());
    }
}
