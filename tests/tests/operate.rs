//! Starting, stopping, settings, health and metrics: what an operator sees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use void_tests::{Server, eventually};

/// The exit code of a start that its settings forbid (EX_CONFIG of sysexits.h).
const BAD_SETTINGS: i32 = 78;

#[test]
fn a_server_that_stands_is_healthy_and_ready() {
    let server = Server::start();
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/readyz").status, 200);
    assert_eq!(server.processes("void-spawner").len(), 1);
}

#[test]
fn the_metrics_have_the_names_and_labels_that_were_promised() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "50").start();
    let (add, spin) = (server.upload_guest("add"), server.upload_guest("loop"));
    let run = server
        .exec(json!({"target": {"cid": add}, "entry": "add", "args": [2, 3], "labels": {"who": "zebra"}}))
        .wait();
    run.result();
    server.run(&spin, "forever", json!([])).failed_with("cpu_budget");

    let page = server.get("/metrics");
    assert!(
        page.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")),
        "{:?}",
        page.headers
    );
    let metrics = server.metrics();
    for (name, kind) in [
        ("void_wasm_runs_total", "counter"),
        ("void_wasm_run_duration_ms", "histogram"),
        ("void_wasm_syscalls_total", "counter"),
        ("void_wasm_policy_denied_total", "counter"),
        ("void_wasm_resource_violations_total", "counter"),
    ] {
        assert_eq!(metrics.kind(name), Some(kind), "{name}");
        assert!(metrics.help(name).is_some_and(|help| help.len() > 10), "{name} has no help");
    }
    assert_eq!(metrics.label_names("void_wasm_runs_total"), ["mode", "status"]);
    assert_eq!(metrics.label_names("void_wasm_resource_violations_total"), ["type"]);
    assert_eq!(metrics.sum("void_wasm_runs_total", &[("status", "finished"), ("mode", "live")]), 1.0);
    assert_eq!(metrics.sum("void_wasm_runs_total", &[("status", "error"), ("mode", "live")]), 1.0);
    assert_eq!(metrics.sum("void_wasm_run_duration_ms_count", &[]), 2.0);
    assert!(metrics.sum("void_wasm_run_duration_ms_sum", &[]) >= 49.0);
    assert_eq!(metrics.sum("void_wasm_resource_violations_total", &[]), 1.0);
    for name in metrics.names() {
        assert!(
            ["void_wasm_", "process_"].iter().any(|start| name.starts_with(start)),
            "a name of another style: {name}"
        );
    }
    for value in metrics.label_values() {
        let unbounded = value.starts_with("wasm_") || value.starts_with("baf") || value.contains("zebra");
        assert!(!unbounded, "a label holds {value}");
    }
}

#[test]
fn a_bad_setting_stops_the_start_and_is_explained() {
    for (name, value) in [
        ("WASM_EXEC_ENABLED", "maybe"),
        ("WASM_EXEC_FREEZE", "2"),
        ("WASM_EXEC_CANARY", "1.5"),
        ("WASM_EXEC_CANARY", "-0.1"),
        ("WASM_EXEC_CANARY", "NaN"),
        ("WASM_EXEC_CANARY", "half"),
        ("WASM_MEM_PAGES_MAX", "-1"),
        ("WASM_MEM_PAGES_MAX", "65537"),
        ("WASM_MEM_PAGES_MAX", "16MB"),
        ("WASM_CPU_MS_BUDGET", "0"),
        ("WASM_CPU_MS_BUDGET", "2.5"),
        ("WASM_CPU_MS_BUDGET", "99999999999999999999"),
        ("WASM_WALL_MS_BUDGET", "soon"),
        ("WASM_CAPS", "emit,root"),
        ("WASM_HTTP_ALLOWLIST", "https://example.com/"),
        ("WASM_HTTP_RPS", "-2"),
        ("WASM_HTTP_BURST", "x"),
        ("WASM_HTTP_MAX_BYTES", "128k"),
        ("WASM_KV_MAX_KEYS", "many"),
        ("WASM_KV_MAX_VALUE_BYTES", "-1"),
        ("WASM_SYSCALL_MAX", "x"),
        ("WASM_SYSCALL_RPS", "x"),
        ("WASM_OUTPUT_MAX_BYTES", "x"),
        ("WASM_LISTEN", "nonsense"),
        ("WASM_LISTEN", "127.0.0.1:99999"),
        ("WASM_LISTEN", "0.0.0.0:0"),
        ("WASM_WORKERS", "0"),
        ("WASM_QUEUE_MAX", "-1"),
        ("WASM_ISOLATION", "none"),
        ("WASM_ALLOW_WEAKER_ISOLATION", "perhaps"),
        ("WASM_DURABILITY", "high"),
        ("WASM_RUNS_KEEP", "all"),
        ("WASM_RUNS_KEEP_HOURS", "x"),
        ("WASM_API_TOKENS_FILE", "/nonexistent/tokens"),
        ("WASM_ENV_FILE", "/nonexistent/env"),
        ("FNPM_HTTP_GATEWAYS", "not a url"),
        ("FNPM_IPFS_API", "not a url"),
        ("FNPM_FETCH_TIMEOUT_MS", "x"),
        ("FNPM_MAX_FILE_SIZE", "50MB"),
    ] {
        let exited = Server::builder().env(name, value).refuses_to_start();
        exited.with_code(BAD_SETTINGS).and_says(&[name, value]);
    }
    let exited = Server::builder().without("WASM_LISTEN").env("PORT", "70000").refuses_to_start();
    exited.with_code(BAD_SETTINGS).and_says(&["PORT", "70000"]);
}

#[test]
fn all_bad_settings_are_told_at_once() {
    let exited =
        Server::builder().env("WASM_EXEC_CANARY", "7").env("WASM_CPU_MS_BUDGET", "x").refuses_to_start();
    exited
        .with_code(BAD_SETTINGS)
        .and_says(&["WASM_EXEC_CANARY", "7"])
        .and_says(&["WASM_CPU_MS_BUDGET", "x"]);
}

#[test]
fn an_unknown_setting_is_warned_about_with_the_nearest_name() {
    let server = Server::builder().env("WASM_CPU_BUDGET", "5").env("WASM_EXEC_ENABLE", "0").start();
    server.logs(&["WARN", "WASM_CPU_BUDGET", "WASM_CPU_MS_BUDGET"]);
    server.logs(&["WARN", "WASM_EXEC_ENABLE", "WASM_EXEC_ENABLED"]);
}

#[test]
fn the_env_file_wins_over_the_environment() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "# a comment\nWASM_CPU_MS_BUDGET=\"40\"\nWASM_EXEC_ENABLED='1'\n")
        .expect("written");
    let path = file.path().to_str().expect("a plain path");
    let server = Server::builder()
        .env("WASM_ENV_FILE", path)
        .env("WASM_CPU_MS_BUDGET", "20000")
        .env("WASM_EXEC_ENABLED", "0")
        .start();
    let cid = server.upload_guest("loop");
    let run = server.run(&cid, "forever", json!([]));
    run.failed_with("cpu_budget");
    assert!(run.usage("cpu_ms") <= 60, "{}", run.record());
}

#[test]
fn by_default_nothing_is_executed() {
    let server = Server::builder().without("WASM_EXEC_ENABLED").start();
    let cid = server.upload_guest("add");
    let response = server.exec(json!({"target": {"cid": cid}, "entry": "add", "args": [2, 3]})).send();
    assert_eq!((response.status, response.problem().as_str()), (503, "disabled"));
    for path in ["/health", "/metrics", &format!("/v1/modules/{cid}")] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    // Shape comes first.
    assert_eq!(server.exec_raw("{").send().status, 400);
}

#[test]
fn a_frozen_server_accepts_and_does_not_execute() {
    let server = Server::builder().env("WASM_EXEC_FREEZE", "1").start();
    let cid = server.upload_guest("add");
    let response = server.exec(json!({"target": {"cid": cid}, "entry": "add", "args": [2, 3]})).send();
    let accepted = response.json();
    assert_eq!((response.status, &accepted["mode"]), (202, &json!("frozen")));
    assert!(accepted["warning"].is_string(), "{accepted}");
    let run = server.look_up(accepted["run_id"].as_str().expect("an id"));
    assert_eq!((run.status(), &run.record()["result"]), ("frozen", &json!(null)));
    assert!(server.processes("void-zygote").is_empty() && server.processes("void-run").is_empty());
}

#[test]
fn a_share_of_nothing_only_pretends() {
    let server = Server::builder().env("WASM_EXEC_CANARY", "0").start();
    let (add, spin) = (server.upload_guest("add"), server.upload_guest("start_loop"));
    let run = server.run(&add, "add", json!([2, 3]));
    assert_eq!(run.record()["mode"], "dry-run");
    assert_eq!(run.result(), &json!({"dry_run": true}));
    // What would loop before its first instruction does not even begin.
    assert_eq!(server.run(&spin, "answer", json!([])).result(), &json!({"dry_run": true}));
    // The error that it would have met, it meets.
    server.run(&add, "subtract", json!([2, 3])).failed_with("entry_not_found");
    server.run(&add, "add", json!([2])).failed_with("entry_type_mismatch");
    let unknown = server.put_module(&void_tests::guest("unknown_import"));
    if unknown.status < 400 {
        let cid = unknown.json()["cid"].as_str().expect("a CID").to_owned();
        server.run(&cid, "answer", json!([])).failed_with("module_invalid");
    }
}

#[test]
fn a_share_in_between_executes_some_and_the_same_key_always_the_same() {
    let server = Server::builder().env("WASM_EXEC_CANARY", "0.5").start();
    let cid = server.upload_guest("add");
    let mut modes = std::collections::BTreeMap::new();
    for _ in 0..60 {
        let run = server.run(&cid, "add", json!([2, 3]));
        let mode = run.record()["mode"].as_str().unwrap_or_default().to_owned();
        let wanted = if mode == "canary" { json!(5) } else { json!({"dry_run": true}) };
        assert_eq!(run.result(), &wanted);
        *modes.entry(mode).or_insert(0) += 1;
    }
    // The chance that 60 fair coins all fall on one side is 2^-59.
    assert_eq!(modes.keys().collect::<Vec<_>>(), ["canary", "dry-run"], "{modes:?}");
}

#[test]
fn a_term_signal_drains_and_ends_well() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "1000").start();
    let cid = server.upload_guest("loop");
    let mut waiting = server.connect();
    let body = json!({"target": {"cid": cid}, "entry": "forever"}).to_string();
    waiting.send_request("POST", "/v1/exec", &[("Prefer", "wait=60")], body.as_bytes()).expect("sent");
    eventually("the run runs", Duration::from_secs(10), || {
        server.processes("void-run").iter().any(|process| process.cpu_ticks() >= 2)
    });
    server.signal(Signal::SIGTERM);
    // What runs is finished, and its client gets the answer.
    let response = waiting.read_response().expect("an answer");
    assert_eq!(response.json()["reason"], "cpu_budget", "{}", response.text());
    let status = server.wait_for_exit();
    assert_eq!(status.code(), Some(0), "{status}\n{}", server.log());
}

#[test]
fn an_idle_server_ends_on_a_term_signal_at_once() {
    let server = Server::start();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
}

#[test]
fn runs_and_modules_outlive_a_kill_of_the_server() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let run = server.run(&cid, "add", json!([2, 3]));
    let id = run.id().to_owned();
    let server = server.restart();
    assert_eq!(server.look_up(&id).record(), run.record());
    assert_eq!(server.run(&cid, "add", json!([3, 4])).result(), &json!(7));
}

#[test]
fn a_run_that_the_server_died_under_is_interrupted_or_done_again_from_the_start() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "3000").start();
    let cid = server.upload_guest("loop");
    let id = server.exec(json!({"target": {"cid": cid}, "entry": "forever"})).start();
    eventually("the run runs", Duration::from_secs(10), || {
        server.processes("void-run").iter().any(|process| process.cpu_ticks() >= 2)
    });
    let server = server.restart();
    server.wait_for(&id).failed_with("interrupted");
}

#[test]
fn a_manifest_names_modules() {
    let server = Server::start();
    let module = void_tests::guest("add");
    let info = server.put_module(&module).json();
    drop(server);

    let server = Server::builder();
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let cid = info["cid"].as_str().expect("a CID");
    let sha256 = info["sha256"].as_str().expect("a digest").trim_start_matches("sha256:");
    let ast_hash = format!("sha256:{}", "a".repeat(64));
    let manifest = json!({
        "version": "1.0.0",
        "createdAt": "2025-01-01T00:00:00Z",
        "genes": [{
            "name": "adder", "lang": "wat", "entry": "add", "sha256": sha256, "cid": cid,
            "size": module.len(), "astHash": ast_hash, "something": "else",
        }],
    });
    std::fs::write(folder.path().join("manifest.json"), manifest.to_string()).expect("written");
    std::fs::write(folder.path().join("adder.wasm"), &module).expect("written");
    let server = server.env("FNPM_MANIFEST_DIRS", folder.path().to_str().expect("a plain path")).start();
    for target in [
        json!({"cid": cid}),
        json!({"ast_hash": ast_hash}),
        json!({"astHash": ast_hash}),
        json!({"sha256": sha256}),
        json!({"sha256": format!("sha256:{sha256}")}),
    ] {
        let run = server.exec(json!({"target": target, "entry": "add(i32,i32)->i32", "args": [2, 3]})).wait();
        assert_eq!(run.result(), &json!(5), "{target}");
    }
}

#[test]
fn a_file_that_is_not_what_the_manifest_says_is_not_run() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let (real, other) = (void_tests::guest("add"), void_tests::guest("loop"));
    let scout = Server::start();
    let info = scout.put_module(&real).json();
    drop(scout);
    let manifest = json!({"version": "1", "createdAt": "2025-01-01T00:00:00Z", "genes": [{
        "name": "adder", "lang": "wat", "entry": "add", "cid": info["cid"], "sha256": info["sha256"],
        "size": real.len(), "astHash": format!("sha256:{}", "b".repeat(64)),
    }]});
    std::fs::write(folder.path().join("manifest.json"), manifest.to_string()).expect("written");
    std::fs::write(folder.path().join("adder.wasm"), other).expect("written");
    let server =
        Server::builder().env("FNPM_MANIFEST_DIRS", folder.path().to_str().expect("a plain path")).start();
    let run = server.exec(json!({"target": {"cid": info["cid"]}, "entry": "add", "args": [2, 3]})).wait();
    assert!(matches!(run.reason(), "module_unverified" | "module_not_found"), "{}", run.record());
}

#[test]
fn an_address_that_is_taken_is_named() {
    let first = Server::start();
    let address = first.address().to_string();
    let exited = Server::builder().env("WASM_LISTEN", &address).refuses_to_start();
    assert!(exited.status.code().is_some_and(|code| code != 0), "{exited:?}");
    exited.and_says(&[&address]);
}

#[test]
fn a_state_folder_that_is_taken_is_named() {
    let first = Server::start();
    let state = first.home().join("state");
    let exited =
        Server::builder().env("WASM_STATE_DIR", state.to_str().expect("a plain path")).refuses_to_start();
    assert!(exited.status.code().is_some_and(|code| code != 0), "{exited:?}");
}
