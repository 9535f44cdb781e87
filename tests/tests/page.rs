//! The status page and its parts, as bytes. What a browser makes of them: pictures.rs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use serde_json::json;
use void_tests::{EnvFile, Server, wat};

#[test]
fn it_shows_the_service_and_its_runs() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let run = server.run(&cid, "add", json!([40, 2]));
    let page = server.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let text = page.text();
    for part in [
        run.id(),
        ">42</td>",
        "id=\"state\" class=\"state good\">ready<",
        "<dt>canary share</dt><dd>100 %</dd>",
        "<dt>runs ended</dt><dd>1</dd>",
        "Isolation: <code>run</code>",
        "<li class=\"stands\">seccomp</li>",
        "<th scope=\"row\">zygote</th>",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // Nothing in it needs what the policy forbids, or comes from elsewhere.
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for forbidden in ["<style", " style=", "onclick", "onload", "http://", "https://", "<script>"] {
        assert!(!text.contains(forbidden), "{forbidden} in {text}");
    }
    assert_eq!(server.request("HEAD", "/", &[], &[]).status, 200);
    assert_eq!(server.request("POST", "/", &[], b"{}").status, 405);
}

#[test]
fn what_others_wrote_is_never_markup() {
    let server = Server::start();
    let bad = "<img src=x onerror=alert(1)>";
    let cid = server.upload(&wat(&format!(r#"(module (func (export "{bad}") unreachable))"#)));
    let request = json!({"target": {"cid": cid}, "entry": bad, "labels": {"a\"'&": bad}});
    server.exec(request).wait().failed_with("trap");
    let missing = json!({"target": {"cid": cid}, "entry": "</td><script>alert(2)</script>"});
    server.exec(missing).wait().failed_with("entry_not_found");
    let text = server.get("/").text();
    assert!(!text.contains("<img src=x") && !text.contains("alert(2)</script>"), "{text}");
    assert!(text.contains("&lt;img src=x onerror=alert(1)&gt;"), "{text}");
    assert!(text.contains("a&quot;&#39;&amp;="), "{text}");
}

#[test]
fn runs_are_shown_to_their_tenant_alone() {
    let tokens = EnvFile::new(&["anna anna-token-0123456789abcdef", "bert bert-token-0123456789abcdef"]);
    let server = Server::builder().env("WASM_API_TOKENS_FILE", tokens.path()).start();
    let anna = [("Authorization", "Bearer anna-token-0123456789abcdef")];
    let bert = [("Authorization", "Bearer bert-token-0123456789abcdef")];
    let cid = server.request("PUT", "/v1/modules", &anna, &void_tests::guest("add")).json()["cid"].clone();
    let request =
        json!({"target": {"cid": cid}, "entry": "add", "args": [1, 2], "labels": {"secret": "plan"}});
    let run = server.exec(request).header(anna[0].0, anna[0].1).header("Prefer", "wait=30").send().json();
    let id = run["run_id"].as_str().expect("an id");

    let as_anna = server.request("GET", "/", &anna, &[]).text();
    assert!(as_anna.contains(id) && as_anna.contains("secret=plan"), "{as_anna}");
    for text in [server.request("GET", "/", &bert, &[]).text(), server.get("/").text()] {
        assert!(!text.contains(id) && !text.contains("secret") && !text.contains("anna"), "{text}");
        // The numbers of all are there.
        assert!(text.contains("<dt>runs ended</dt><dd>1</dd>"), "{text}");
    }
    assert!(server.get("/").text().contains("<form id=\"token\""));
    let wrong = server.request("GET", "/", &[("Authorization", "Bearer nobody")], &[]);
    assert_eq!((wrong.status, wrong.problem().as_str()), (401, "unauthorized"));
}

#[test]
fn its_state_is_that_of_the_service() {
    let server = Server::builder().env("WASM_EXEC_ENABLED", "0").start();
    let text = server.get("/").text();
    assert!(text.contains("class=\"state bad\">execution is switched off here"), "{text}");
    let server = Server::builder().env("WASM_EXEC_FREEZE", "1").start();
    let text = server.get("/").text();
    assert!(text.contains("class=\"state held\">frozen"), "{text}");
}

#[test]
fn its_parts_are_kept_by_the_browser() {
    let server = Server::start();
    for (path, kind) in [
        ("/status.css", "text/css; charset=utf-8"),
        ("/status.js", "text/javascript; charset=utf-8"),
        ("/status.svg", "image/svg+xml"),
        ("/openapi.json", "application/json"),
    ] {
        let first = server.get(path);
        assert_eq!((first.status, first.header("content-type")), (200, Some(kind)));
        assert_eq!(first.header("x-content-type-options"), Some("nosniff"));
        let etag = first.header("etag").expect("an ETag").to_owned();
        let again = server.request("GET", path, &[("If-None-Match", &etag)], &[]);
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(etag.as_str())));
        assert_eq!(server.request("GET", path, &[("If-None-Match", "\"other\"")], &[]).status, 200);
    }
}
