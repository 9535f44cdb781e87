//! SIGHUP: all of the new settings hold, or none, and it is said which.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use serde_json::json;
use void_tests::{EnvFile, Server};

#[test]
fn one_bad_value_keeps_all_the_others_out() {
    let env = EnvFile::new(&["WASM_CPU_MS_BUDGET=100"]);
    let server = Server::builder().env("WASM_ENV_FILE", env.path()).start();
    let cid = server.upload_guest("loop");
    let policy = || server.get("/v1/policy").json();
    let before = policy();
    for bad in [
        "WASM_EXEC_CANARY=1.5",
        "WASM_MEM_PAGES_MAX=many",
        "no equals sign",
        "WASM_API_TOKENS_FILE=/nonexistent",
    ] {
        env.write(&["WASM_CPU_MS_BUDGET=50", "WASM_EXEC_FREEZE=1", bad]);
        assert!(!server.reload(), "{bad}");
        assert_eq!(policy(), before, "{bad}");
    }
    server.logs(&["WASM_EXEC_CANARY", "1.5"]);
    server.logs(&["WASM_MEM_PAGES_MAX", "many"]);
    server.logs(&["the settings stay as they were"]);
    let metrics = server.metrics();
    assert_eq!(metrics.sum("void_wasm_reloads_total", &[("outcome", "refused")]), 4.0);
    assert_eq!(metrics.sum("void_wasm_frozen", &[]), 0.0);
    let run = server.run(&cid, "forever", json!([]));
    assert!(run.usage("cpu_ms") >= 95, "{}", run.record());

    env.write(&["WASM_CPU_MS_BUDGET=50", "WASM_EXEC_CANARY=0.5", "WASM_WORKERS=3"]);
    assert!(server.reload());
    server.logs(&["a setting was changed", "WASM_CPU_MS_BUDGET", "100", "50"]);
    server.logs(&["a setting was changed", "WASM_EXEC_CANARY"]);
    server.logs(&["waits for a restart", "WASM_WORKERS"]);
    let metrics = server.metrics();
    assert_eq!(metrics.sum("void_wasm_reloads_total", &[("outcome", "applied")]), 1.0);
    assert_eq!(metrics.sum("void_wasm_canary_share", &[]), 0.5);
    assert_eq!(policy()["canary"], json!(0.5));
}

#[test]
fn what_was_accepted_keeps_its_policy() {
    let env = EnvFile::new(&["WASM_CPU_MS_BUDGET=1500"]);
    let server = Server::builder().env("WASM_ENV_FILE", env.path()).env("WASM_WORKERS", "1").start();
    let cid = server.upload_guest("loop");
    let start = || server.exec(json!({"target": {"cid": cid}, "entry": "forever"})).start();
    let (first, queued) = (start(), start());
    env.write(&["WASM_CPU_MS_BUDGET=30"]);
    assert!(server.reload());
    let new = start();
    for old in [first, queued] {
        let run = server.wait_for(&old);
        run.failed_with("cpu_budget");
        assert!(run.usage("cpu_ms") >= 1400, "{}", run.record());
    }
    let run = server.wait_for(&new);
    run.failed_with("cpu_budget");
    assert!(run.usage("cpu_ms") < 300, "{}", run.record());
}

#[test]
fn tokens_follow_a_reload() {
    let tokens = tempfile::NamedTempFile::new().expect("a temporary file");
    let write = |text: &str| std::fs::write(tokens.path(), text).expect("written");
    write("anna anna-token-0123456789abcdef\n");
    let server =
        Server::builder().env("WASM_API_TOKENS_FILE", tokens.path().to_str().expect("a plain path")).start();
    let mut connection = server.connect();
    let mut status = |token: &str| {
        let header = format!("Bearer {token}");
        connection.request("GET", "/v1/runs", &[("Authorization", &header)], &[]).expect("an answer").status
    };
    assert_eq!(status("anna-token-0123456789abcdef"), 200);
    write("bert bert-token-0123456789abcdef\n");
    assert!(server.reload());
    // On the same connection: what it remembers of its caller is forgotten with the tokens.
    assert_eq!((status("anna-token-0123456789abcdef"), status("bert-token-0123456789abcdef")), (401, 200));
    assert!(!server.log().contains("token-0123456789"), "a token in the log");
}
