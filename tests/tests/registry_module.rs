//! A module of more than 1 MB that a stranger built and published.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use serde_json::json;
use void_tests::{Server, npm_file};

/// dprint's formatter for TypeScript: 4,174,185 bytes made by rustc, 4,653 functions, no imports. The expected results
/// were found by instantiating it in another engine.
const PACKAGE: &str = "@dprint/typescript@0.96.1";
const SHA256: &str = "9c52244de2c25a33addc7ddacff4443234a2dc4b5d3f34131262d1e0df35007c";

#[test]
fn a_large_published_module_runs() {
    let Some(module) = npm_file(PACKAGE, "plugin.wasm", SHA256) else { return };
    assert_eq!(module.len(), 4_174_185);
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "1000").start();

    let uploaded = server.put_module(&module);
    assert_eq!(uploaded.status, 201, "{}", uploaded.text());
    assert_eq!(uploaded.json()["size"], 4_174_185);
    assert_eq!(uploaded.json()["imports"], json!([]));
    let cid = uploaded.json()["cid"].as_str().expect("a CID").to_owned();

    assert_eq!(server.run(&cid, "dprint_plugin_version_4()->i32", json!([])).result(), &json!(4));
    // Length of the licence text that it has put into its memory.
    let run = server.run(&cid, "get_license_text", json!([]));
    assert_eq!(run.result(), &json!(1085));
    assert!(run.usage("mem_pages") >= 22, "{}", run.record());
    // Serialises a description of itself to JSON.
    assert_eq!(server.run(&cid, "get_plugin_info", json!([])).result(), &json!(312));
    // It is found by the digest of its bytes, too.
    let request = json!({"target": {"sha256": SHA256}, "entry": "dprint_plugin_version_4"});
    assert_eq!(server.exec(request).wait().result(), &json!(4));
}
