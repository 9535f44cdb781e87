//! The functions that a core module may import, as `docs/abi.md` says: what stops the guest, and what is answered without
//! anything being asked. What the gateway does is in `gateway`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use serde_json::{Value, json};
use void_tests::Server;

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

#[track_caller]
fn answers(server: &Server, cid: &str, code: i64, calls: &[(&str, Value)]) {
    for (function, arguments) in calls {
        let run = server.run(cid, function, arguments.clone());
        assert_eq!(run.result(), &json!(code), "{function}{arguments}");
        assert_eq!(run.usage("syscalls"), 0, "{function}{arguments} was a gateway call");
    }
}

#[test]
fn what_could_never_be_sent_is_answered_at_once() {
    let server = Server::start();
    let cid = server.upload_guest("abi");
    answers(
        &server,
        &cid,
        TOO_LARGE,
        &[
            ("emit", json!([0, 257, 0, 0])),
            ("emit", json!([0, 5, 0, 65_537])),
            ("emit", json!([0, 5, 0, END])),
            ("kv_get", json!([0, 257, 0, 5, 0, 0])),
            ("kv_get", json!([0, 0, 0, 257, 0, 0])),
            ("kv_set", json!([0, 0, 0, 257, 0, 0])),
            ("kv_set", json!([0, 0, 0, 5, 0, 131_073])),
            ("kv_delete", json!([0, 0, 0, 257])),
            ("http_fetch", json!([128, 3, 0, 8193, 0, 0, 0, 0])),
            ("http_fetch", json!([128, 3, 0, 5, 0, 16_385, 0, 0])),
            ("http_fetch", json!([128, 3, 0, 5, 0, 0, 0, 131_073])),
            ("many_headers", json!([])),
        ],
    );
    // 64: bytes that are no UTF-8, none of their beginnings either.
    answers(
        &server,
        &cid,
        INVALID,
        &[
            ("emit", json!([64, 1, 0, 0])),
            ("emit", json!([64, 7, 0, 0])),
            ("kv_get", json!([64, 2, 0, 5, 0, 0])),
            ("kv_get", json!([0, 0, 66, 2, 0, 0])),
            ("kv_set", json!([64, 2, 0, 5, 0, 0])),
            ("kv_set", json!([0, 0, 68, 3, 0, 0])),
            ("kv_delete", json!([0, 0, 64, 2])),
            ("http_fetch", json!([64, 2, 0, 5, 0, 0, 0, 0])),
            ("http_fetch", json!([128, 3, 64, 2, 0, 0, 0, 0])),
            ("http_fetch", json!([128, 3, 0, 5, 192, 8, 0, 0])),
            ("http_fetch", json!([128, 3, 0, 5, 224, 4, 0, 0])),
            ("http_fetch", json!([128, 3, 0, 5, 240, 5, 0, 0])),
            ("http_fetch", json!([0, 33, 0, 5, 0, 0, 0, 0])),
        ],
    );
    answers(
        &server,
        &cid,
        NOT_FOUND,
        &[
            ("http_headers", json!([0, 64])),
            ("http_body_len", json!([])),
            ("http_body", json!([0, 0, 64])),
            ("http_body", json!([-1, 0, 64])),
        ],
    );
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
fn a_function_of_the_host_shown_as_the_guests_own_has_no_memory_to_read() {
    let server = Server::start();
    let cid = server.upload_wat(
        "(module (import \"void\" \"emit\" (func $emit (param i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1) (export \"emit\" (func $emit)))",
    );
    server.run(&cid, "emit", json!([0, 0, 0, 0])).failed_with("trap");
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
