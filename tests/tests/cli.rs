//! The command line, as a user types it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use serde_json::{Value, json};
use void_tests::{Server, void_wasm};

#[test]
fn a_result_is_all_that_goes_to_stdout() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let said = void_wasm(
        &server,
        &["exec", &cid, "--entry", "add(i32,i32)->i32", "--i32", "2", "--i32", "3", "--wait"],
    );
    assert_eq!((said.code, said.stdout.trim()), (0, "5"), "{said:?}");
}

#[test]
fn typed_values_keep_the_order_in_which_they_were_typed() {
    let server = Server::start();
    let cid = server.upload_guest("multi_value");
    let said = void_wasm(&server, &["exec", &cid, "--entry", "swap", "--i32", "-7", "--i64=-8", "--wait"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(serde_json::from_str::<Value>(&said.stdout).expect("JSON"), json!(["-8", -7]));
}

#[test]
fn a_file_is_uploaded_first() {
    let server = Server::start();
    let file = tempfile::Builder::new().suffix(".wasm").tempfile().expect("a temporary file");
    std::fs::write(file.path(), void_tests::guest("identity")).expect("written");
    let path = file.path().to_str().expect("a plain path");
    let said = void_wasm(&server, &["exec", path, "--entry", "f64", "--f64", "3.14", "--wait"]);
    assert_eq!((said.code, said.stdout.trim()), (0, "3.14"), "{said:?}");
}

#[test]
fn the_whole_record_comes_as_json() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let args = [
        "exec", &cid, "--entry", "add", "--arg", "40", "--arg", "2", "--label", "who=me", "--wait", "--json",
    ];
    let said = void_wasm(&server, &args);
    let record: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    assert_eq!((&record["result"], &record["labels"]), (&json!(42), &json!({"who": "me"})));
}

#[test]
fn without_waiting_the_run_is_named() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let said = void_wasm(&server, &["exec", &cid, "--entry", "add", "--i32", "2", "--i32", "3"]);
    assert_eq!(said.code, 0, "{said:?}");
    let id = said.stdout.split_whitespace().find(|word| word.starts_with("wasm_")).expect("an id");
    assert_eq!(server.wait_for(id).result(), &json!(5));
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let server = Server::start();
    let cid = server.upload_guest("traps");
    let trapped = void_wasm(&server, &["exec", &cid, "--entry", "divide_by_zero", "--wait"]);
    assert_eq!((trapped.code, trapped.stdout.as_str()), (1, ""), "{trapped:?}");
    assert!(trapped.stderr.contains("zero"), "{trapped:?}");
    assert_eq!(void_wasm(&server, &["exec"]).code, 2);
    assert_eq!(void_wasm(&server, &["exec", &cid, "--i32", "x", "--wait"]).code, 2);
    assert_eq!(void_wasm(&server, &["dance"]).code, 2);

    let off = Server::builder().env("WASM_EXEC_ENABLED", "0").start();
    assert_eq!(void_wasm(&off, &["exec", &cid, "--entry", "add", "--wait"]).code, 75);

    server.kill_and_expect_nothing_left(std::time::Duration::from_secs(10));
    let nobody = void_wasm(&server, &["exec", &cid, "--entry", "add", "--wait"]);
    assert_eq!(nobody.code, 69, "{nobody:?}");
}
