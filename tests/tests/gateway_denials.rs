//! Refused calls: a guest cannot hide one behind others, neither in its record nor in the log, and the counts are true.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use serde_json::{Value, json};
use void_tests::{Caller, Run, Server, fetching};

const METADATA: &str = "http://169.254.169.254/latest/meta-data/";

/// `all` asks for each of these URLs, in their order.
fn asking(urls: &[String]) -> Vec<u8> {
    let mut caller = Caller::new();
    let (method, nothing) = (caller.bytes(b"GET"), "(i32.const 0) (i32.const 0)");
    let calls: String = urls
        .iter()
        .map(|url| {
            let url = caller.bytes(url.as_bytes());
            format!("(drop (call $http_fetch {method} {url} {nothing} {nothing}))")
        })
        .collect();
    caller.code(&format!("(func (export \"all\") {calls})")).build()
}

fn denials(run: &Run) -> &[Value] {
    run.record()["denials"].as_array().expect("denials")
}

fn count(denials: &[Value], rule: &str) -> u64 {
    denials.iter().filter(|note| note["rule"] == rule).map(|note| note["count"].as_u64().unwrap()).sum()
}

fn server() -> Server {
    fetching("127.0.0.1:1").env("WASM_SYSCALL_RPS", "100000").env("WASM_SYSCALL_MAX", "100000").start()
}

#[test]
fn a_denial_is_not_hidden_behind_many_of_another_rule() {
    let server = server();
    let urls: Vec<String> = (0..20).map(|number| format!("/{number}")).chain([METADATA.to_owned()]).collect();
    let run = server.run(&server.upload(&asking(&urls)), "all", json!([]));
    let denials = denials(&run);
    let told = denials.iter().find(|note| note["rule"] == "host_not_allowed").expect("the one that matters");
    assert!(told["reason"].as_str().unwrap().contains("169.254.169.254"), "{told}");
    assert!(told["remedy"].as_str().unwrap().contains("WASM_HTTP_ALLOWLIST"), "{told}");
    assert_eq!((count(denials, "host_not_allowed"), count(denials, "bad_url")), (1, 20), "{denials:?}");
    server.logs(&["denied", "host_not_allowed", "169.254.169.254", "WASM_HTTP_ALLOWLIST", run.id()]);
}

#[test]
fn the_counts_of_many_refusals_by_one_rule_are_true() {
    let server = server();
    // Each host twice, the last ones when there is no room any more.
    let hosts = || (0..20).map(|number| format!("http://h{number}.example/"));
    let urls: Vec<String> = hosts().chain(hosts()).chain([METADATA.to_owned()]).collect();
    let run = server.run(&server.upload(&asking(&urls)), "all", json!([]));
    let denials = denials(&run);
    assert_eq!(denials.len(), 16, "{denials:?}");
    for (number, note) in denials.iter().enumerate() {
        let reason = note["reason"].as_str().unwrap();
        assert!(reason.contains(&format!("h{number}.example")), "{note}");
        assert_eq!(reason.contains("further calls"), number == 15, "{note}");
        // 4 hosts twice, and the last one, stand with the last note.
        assert_eq!(note["count"], if number == 15 { 2 + 9 } else { 2 }, "{note}");
    }
    assert!(
        denials[15]["reason"]
            .as_str()
            .unwrap()
            .ends_with("(met: 2; further calls that this rule refused: 9)"),
        "{}",
        denials[15]
    );
    // The log does not need the record's room.
    server.logs(&["denied", "169.254.169.254", run.id()]);
    let lines = server.log();
    for number in 0..20 {
        let told = |line: &str| line.contains(run.id()) && line.contains(&format!("h{number}.example"));
        assert!(lines.lines().any(told), "no line of h{number}");
    }
}

#[test]
fn what_had_no_line_is_counted_in_one() {
    let server = server();
    let urls: Vec<String> =
        (0..500).map(|number| format!("/{number}")).chain([METADATA.to_owned()]).collect();
    let run = server.run(&server.upload(&asking(&urls)), "all", json!([]));
    // The first by its rule has a line all the same.
    server.logs(&["denied", "169.254.169.254", run.id()]);
    let said = server.logs(&["gateway calls were denied too fast", "left_out"]);
    let left_out: usize = said
        .split("left_out\":")
        .nth(1)
        .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next())
        .unwrap_or_else(|| panic!("no number: {said}"))
        .parse()
        .unwrap();
    let lines =
        server.log().lines().filter(|line| line.contains(run.id()) && line.contains("denied")).count();
    assert_eq!(lines + left_out, 501, "{lines} lines and {left_out} without");
    assert!((41..=60).contains(&lines), "{lines}");
}

#[test]
fn each_kind_of_call_has_its_own() {
    let server = Server::builder().env("WASM_CAPS", "kv").start();
    let mut caller = Caller::new();
    let (key, bad) = (caller.bytes(b"k"), caller.bytes(b"a/b"));
    let code = format!(
        r#"(func (export "all")
          (drop (call $kv_get {bad} {key} {key})) (drop (call $kv_set {bad} {key} {key}))
          (drop (call $kv_delete {bad} {key})) (drop (call $emit {key} {key})) (drop (call $kv_get {bad} {key} {key})))"#
    );
    let run = server.run(&server.upload(&caller.code(&code).build()), "all", json!([]));
    let told: Vec<_> = denials(&run)
        .iter()
        .map(|note| {
            (note["kind"].as_str().unwrap(), note["rule"].as_str().unwrap(), note["count"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("kv.get", "bad_name", 2),
            ("kv.set", "bad_name", 1),
            ("kv.delete", "bad_name", 1),
            ("emit", "cap_missing", 1)
        ]
    );
}
