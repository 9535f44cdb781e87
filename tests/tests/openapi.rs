//! The description of the API, and the service held against it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::path::Path;
use std::process::Command;

use serde_json::json;
use void_tests::Server;

#[test]
fn it_is_version_3_1_and_knows_the_types() {
    let document = Server::start().get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["components"]["schemas"]["ExecRequest"]["additionalProperties"], json!(false));
    let exec = &document["paths"]["/v1/exec"]["post"];
    assert_eq!(
        exec["requestBody"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/ExecRequest"
    );
    for status in ["200", "202", "400", "401", "403", "408", "413", "422", "429", "503"] {
        assert!(exec["responses"][status].is_object(), "{status}");
    }
    let refused = &exec["responses"]["429"];
    assert!(
        refused["content"]["application/problem+json"].is_object()
            && refused["headers"]["Retry-After"].is_object()
    );
    assert!(
        document["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]
            .is_object()
    );
}

/// Requests made out of the document, good and bad, and every answer held against it.
#[test]
#[ignore = "needs schemathesis: `cargo xtask openapi-test` installs it and runs this"]
fn the_service_does_what_it_says() {
    let program = std::env::var_os("VOID_WASM_SCHEMATHESIS").expect("run `cargo xtask openapi-test`");
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "200").start();
    let cid = server.upload_guest("add");
    let run = server.run(&cid, "add", json!([2, 3]));
    assert_eq!(run.result(), &json!(5));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("http://{}", server.address());
    // It leaves files of its own where it runs.
    for name in ["schemathesis.toml", "schemathesis_hooks.py"] {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        std::fs::copy(own, folder.path().join(name)).expect("copied");
    }
    let status = Command::new(program)
        .arg("run")
        .arg(format!("{url}/openapi.json"))
        .args(["--url", &url, "--no-color"])
        .current_dir(folder.path())
        .status()
        .expect("schemathesis can be executed");
    assert!(status.success(), "the service and its description differ: see above");
    // Whatever was sent, it is still there and runs.
    assert_eq!(server.run(&cid, "add", json!([2, 3])).result(), &json!(5));
}
