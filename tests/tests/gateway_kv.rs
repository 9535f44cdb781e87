//! `kv`: values of a tenant, durable, read by whoever reads after they were written, and never more than allowed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::io::Write;

use serde_json::{Value, json};
use void_tests::{Builder, Caller, Run, Server};

/// `set(key, size)`, `get(key)`, `delete(key)` with keys that are numbers, in the unnamed namespace; `set_in`, `get_in` in
/// one of two named ones. `get` returns the length or the code, `get_short` gives too little room. `round(n)` sets and
/// reads back n times and counts what was read as it was set. `bad_name`, `no_key`, `long_key` are none.
fn keeper() -> Vec<u8> {
    let mut caller = Caller::new();
    let (one, two) = (caller.bytes(b"one"), caller.bytes(b"two"));
    let bad = caller.bytes(b"a/b");
    caller
        .code(&format!(
            r#"
  (func $key (param $key i32) (local $at i32)
    (local.set $at (i32.const 259))
    (loop $digits
      (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $key) (i32.const 10))))
      (local.set $key (i32.div_u (local.get $key) (i32.const 10)))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (br_if $digits (i32.ge_u (local.get $at) (i32.const 256)))))
  (func $fill (param $key i32) (param $size i32)
    (memory.fill (i32.const 0x100000) (local.get $key) (local.get $size)))
  (func (export "set") (param $key i32) (param $size i32) (result i32)
    (call $key (local.get $key)) (call $fill (local.get $key) (local.get $size))
    (call $kv_set (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 4) (i32.const 0x100000) (local.get $size)))
  (func (export "get") (param $key i32) (result i32)
    (call $key (local.get $key))
    (call $kv_get (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 4) (i32.const 0x200000) (i32.const 0x80000)))
  (func (export "first_byte") (param $key i32) (result i32)
    (call $key (local.get $key))
    (drop (call $kv_get (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 4) (i32.const 0x200000) (i32.const 0x80000)))
    (i32.load8_u (i32.const 0x200000)))
  (func (export "get_short") (param $key i32) (result i32)
    (call $key (local.get $key))
    (i32.store8 (i32.const 0x200000) (i32.const 77))
    (i32.add (i32.mul (i32.const 1000)
        (call $kv_get (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 4) (i32.const 0x200000) (i32.const 1)))
      (i32.load8_u (i32.const 0x200000))))
  (func (export "delete") (param $key i32) (result i32)
    (call $key (local.get $key))
    (call $kv_delete (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 4)))
  (func (export "set_in") (param $two i32) (param $key i32) (result i32)
    (call $key (local.get $key)) (call $fill (local.get $two) (i32.const 10))
    (if (result i32) (local.get $two)
      (then (call $kv_set {two} (i32.const 256) (i32.const 4) (i32.const 0x100000) (i32.const 10)))
      (else (call $kv_set {one} (i32.const 256) (i32.const 4) (i32.const 0x100000) (i32.const 10)))))
  (func (export "get_in") (param $two i32) (param $key i32) (result i32)
    (call $key (local.get $key))
    (if (result i32) (local.get $two)
      (then (call $kv_get {two} (i32.const 256) (i32.const 4) (i32.const 0x200000) (i32.const 0x80000)))
      (else (call $kv_get {one} (i32.const 256) (i32.const 4) (i32.const 0x200000) (i32.const 0x80000)))))
  (func (export "fill") (param $from i32) (param $n i32) (result i32) (local $done i32)
    (loop $again
      (call $key (local.get $from))
      (if (i32.eqz (call $kv_set (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 4) (i32.const 0x100000) (i32.const 1)))
        (then (local.set $done (i32.add (local.get $done) (i32.const 1)))))
      (local.set $from (i32.add (local.get $from) (i32.const 1)))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $done))
  (func (export "round") (param $key i32) (param $n i32) (result i32) (local $good i32)
    (call $key (local.get $key))
    (loop $again
      (i32.store (i32.const 0x100000) (local.get $n))
      (drop (call $kv_set (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 4) (i32.const 0x100000) (i32.const 4)))
      (drop (call $kv_get (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 4) (i32.const 0x200000) (i32.const 4)))
      (local.set $good (i32.add (local.get $good) (i32.eq (i32.load (i32.const 0x200000)) (local.get $n))))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $good))
  (func (export "bad_name") (result i32) (call $kv_get {bad} {one} (i32.const 0) (i32.const 0)))
  (func (export "no_key") (result i32) (call $kv_get {one} (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (func (export "long_key") (param $n i32) (result i32)
    (memory.fill (i32.const 0x100000) (i32.const 107) (i32.const 1000))
    (call $kv_get {one} (i32.const 0x100000) (local.get $n) (i32.const 0) (i32.const 0)))
"#
        ))
        .build()
}

fn with_kv() -> Builder {
    Server::builder()
        .env("WASM_CAPS", "emit,kv")
        .env("WASM_SYSCALL_RPS", "100000")
        .env("WASM_CPU_MS_BUDGET", "5000")
}

struct Keeper<'a> {
    server: &'a Server,
    cid: String,
    token: Option<&'static str>,
}

impl<'a> Keeper<'a> {
    fn at(server: &'a Server, token: Option<&'static str>) -> Self {
        let mut headers = vec![("Content-Type", "application/wasm".to_owned())];
        headers.extend(token.map(|token| ("Authorization", format!("Bearer {token}"))));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = server.request("PUT", "/v1/modules", &headers, &keeper());
        let cid = answer.json()["cid"].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned();
        Self { server, cid, token }
    }

    #[track_caller]
    fn run(&self, entry: &str, args: Value) -> Run {
        let exec = self.server.exec(json!({"target": {"cid": self.cid}, "entry": entry, "args": args}));
        match self.token {
            Some(token) => exec.header("Authorization", &format!("Bearer {token}")).wait(),
            None => exec.wait(),
        }
    }

    #[track_caller]
    fn call(&self, entry: &str, args: Value) -> i64 {
        self.run(entry, args).result().as_i64().expect("a number")
    }
}

#[test]
fn what_is_set_is_read_until_it_is_deleted() {
    let server = with_kv().start();
    let kv = Keeper::at(&server, None);
    assert_eq!(kv.call("get", json!([65])), -5);
    assert_eq!(kv.call("delete", json!([65])), 0);
    assert_eq!(kv.call("set", json!([65, 100])), 0);
    assert_eq!((kv.call("get", json!([65])), kv.call("first_byte", json!([65]))), (100, 65));
    assert_eq!(kv.call("get_short", json!([65])), 100 * 1000 + 77, "its length, and nothing was written");
    assert_eq!(kv.call("set", json!([65, 0])), 0);
    assert_eq!(kv.call("get", json!([65])), 0, "an empty value is one");
    assert_eq!((kv.call("delete", json!([65])), kv.call("delete", json!([65]))), (1, 0));
    assert_eq!(kv.call("get", json!([65])), -5);
    assert_eq!(kv.call("round", json!([1, 200])), 200, "each read sees the write before it");
    for (name, kinds) in [("kv.get", 206.0), ("kv.set", 202.0), ("kv.delete", 3.0)] {
        let labels = [("kind", name), ("decision", "allow")];
        assert_eq!(server.metrics().sum("void_wasm_syscalls_total", &labels), kinds, "{name}");
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let server = with_kv().start();
    let kv = Keeper::at(&server, None);
    for key in 0..20 {
        assert_eq!(kv.call("set", json!([key, key + 1])), 0);
    }
    let cid = kv.cid.clone();
    let server = server.restart();
    let kv = Keeper { server: &server, cid, token: None };
    for key in 0..20 {
        assert_eq!((kv.call("get", json!([key])), kv.call("first_byte", json!([key]))), (key + 1, key));
    }
}

#[test]
fn namespaces_and_tenants_are_apart() {
    let mut tokens = tempfile::NamedTempFile::new().unwrap();
    writeln!(tokens, "a token-of-a\nb token-of-b").unwrap();
    let server = with_kv().env("WASM_API_TOKENS_FILE", tokens.path().to_str().unwrap()).start();
    let (a, b) = (Keeper::at(&server, Some("token-of-a")), Keeper::at(&server, Some("token-of-b")));
    assert_eq!(a.call("set_in", json!([0, 7])), 0);
    assert_eq!(a.call("get_in", json!([0, 7])), 10);
    assert_eq!(a.call("get_in", json!([1, 7])), -5, "another namespace");
    assert_eq!(a.call("get", json!([7])), -5, "the unnamed one is another too");
    assert_eq!(b.call("get_in", json!([0, 7])), -5, "another tenant");
    assert_eq!(b.call("set_in", json!([0, 7])), 0);
    assert_eq!(b.call("delete", json!([7])), 0);
    assert_eq!(a.call("get_in", json!([0, 7])), 10);
}

#[test]
fn limits_by_number_and_size() {
    let server = with_kv().env("WASM_KV_MAX_KEYS", "3").env("WASM_KV_MAX_VALUE_BYTES", "1000").start();
    let kv = Keeper::at(&server, None);
    assert_eq!(kv.call("set", json!([1, 1000])), 0);
    let run = kv.run("set", json!([1, 1001]));
    assert_eq!((run.result(), &run.record()["denials"][0]["rule"]), (&json!(-3), &json!("too_large")));
    assert_eq!(kv.call("get", json!([1])), 1000, "a refusal changed nothing");
    assert_eq!((kv.call("set", json!([2, 1])), kv.call("set", json!([3, 1]))), (0, 0));
    let run = kv.run("set", json!([4, 1]));
    assert_eq!((run.result(), &run.record()["denials"][0]["rule"]), (&json!(-6), &json!("keys_full")));
    assert!(run.record()["denials"][0]["remedy"].as_str().unwrap().contains("WASM_KV_MAX_KEYS"));
    assert_eq!(kv.call("set", json!([2, 5])), 0, "overwriting is always allowed");
    assert_eq!(kv.call("set_in", json!([0, 4])), 0, "each namespace has its own number");
    assert_eq!(kv.call("delete", json!([3])), 1);
    assert_eq!(kv.call("set", json!([4, 1])), 0);
    assert_eq!(kv.call("bad_name", json!([])), -4);
    assert_eq!(kv.call("no_key", json!([])), -4);
    assert_eq!(kv.call("long_key", json!([256])), -5);
    let run = kv.run("long_key", json!([257]));
    assert_eq!((run.result(), run.usage("syscalls")), (&json!(-3), 1));
    assert_eq!(run.record()["denials"][0]["rule"], "too_large");
}

#[test]
fn no_number_of_writers_gets_more_keys_than_there_may_be() {
    let server = with_kv().env("WASM_KV_MAX_KEYS", "50").env("WASM_WORKERS", "8").start();
    let kv = Keeper::at(&server, None);
    kv.call("get", json!([0]));
    let ids: Vec<_> = (0..8)
        .map(|writer| {
            let args = json!([writer * 1000, 40]);
            server.exec(json!({"target": {"cid": kv.cid}, "entry": "fill", "args": args})).start()
        })
        .collect();
    let set: i64 = ids.iter().map(|id| server.wait_for(id).result().as_i64().unwrap()).sum();
    assert_eq!(set, 50, "of 320 tries");
    let there = (0..8).flat_map(|writer| (0..40).map(move |n| writer * 1000 + n));
    assert_eq!(there.filter(|key| kv.call("get", json!([key])) == 1).count(), 50);
}

#[test]
fn a_value_that_one_run_writes_is_what_all_others_read_next() {
    let server = with_kv().env("WASM_WORKERS", "8").start();
    let kv = Keeper::at(&server, None);
    // Readers on every lane have it in memory, and a writer on any of them changes it.
    for size in 1..60 {
        assert_eq!(kv.call("set", json!([5, size])), 0);
        assert_eq!(kv.call("get", json!([5])), size);
        assert_eq!(kv.call("get", json!([5])), size);
    }
}
