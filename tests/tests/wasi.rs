//! WASI commands: arguments, streams and exit codes, and nothing of a filesystem.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use serde_json::json;
use void_tests::Server;

/// WASI's `badf`: no such descriptor.
const BADF: u32 = 8;

#[test]
fn a_command_writes_to_its_record() {
    let server = Server::start();
    let cid = server.upload_guest("wasi");
    let run = server.exec(json!({"target": {"cid": cid}})).wait();
    assert_eq!(run.result(), &json!(null));
    assert_eq!((&run.record()["stdout"], &run.record()["stderr"]), (&json!("hello\n"), &json!("oops\n")));
    assert_eq!(run.record()["exit_code"], 0);
}

#[test]
fn an_exit_code_is_told_and_only_zero_is_well() {
    let server = Server::start();
    let cid = server.upload_guest("wasi");
    let run = server.run(&cid, "exit_with", json!([7]));
    run.failed_with("exit");
    assert_eq!((&run.record()["exit_code"], &run.record()["stdout"]), (&json!(7), &json!("hello\n")));
    let run = server.run(&cid, "exit_with", json!([0]));
    run.result();
    assert_eq!(run.record()["exit_code"], 0);
}

#[test]
fn input_arguments_and_variables_are_as_given_and_no_others() {
    let server = Server::start();
    let cid = server.upload_guest("wasi");
    let text = "first line\nsnow \u{2603}\n".repeat(1000);
    let run = server.exec(json!({"target": {"cid": cid}, "entry": "echo", "stdin": text})).wait();
    run.result();
    assert_eq!(run.record()["stdout"], text.as_str());

    let request =
        json!({"target": {"cid": cid}, "entry": "counts", "argv": ["one", "two"], "env": {"K": "v"}});
    assert_eq!(server.exec(request).wait().result(), &json!([2, 1]));
    assert_eq!(
        server.run(&cid, "counts", json!([])).result()[1],
        0,
        "nothing of the supervisor's environment"
    );
}

#[test]
fn there_are_no_files() {
    let server = Server::start();
    let cid = server.upload_guest("wasi");
    assert_eq!(server.run(&cid, "files", json!([])).result(), &json!([BADF, BADF]));
}

#[test]
fn output_over_its_limit_is_cut_and_said_to_be() {
    let server = Server::builder().env("WASM_OUTPUT_MAX_BYTES", "10000").start();
    let cid = server.upload_guest("wasi");
    let run = server.run(&cid, "flood", json!([1000]));
    // The guest goes on: what it writes is dropped.
    assert_eq!(run.result(), &json!(7));
    let stdout = run.record()["stdout"].as_str().expect("stdout").to_owned();
    assert_eq!(stdout.chars().take_while(|c| *c == '\0').count(), 10_000);
    let said = format!("{}{}", &stdout[10_000..], run.record());
    assert!(said.contains("cut") || said.contains("truncated"), "{}", &said[..said.len().min(500)]);
}
