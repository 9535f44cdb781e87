//! Who calls: tokens, and what one tenant must not see of another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use void_tests::{Caller, Response, Server, eventually_some, guest};

const ANNA: &str = "Bearer anna-token-0123456789abcdef";
const BERT: &str = "Bearer bert-token-0123456789abcdef";

fn tokens() -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    let text = "# who and how\nanna anna-token-0123456789abcdef\n\nbert bert-token-0123456789abcdef\n";
    file.write_all(text.as_bytes()).expect("written");
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).expect("chmod");
    file
}

/// A server for two tenants. The file must live as long as it may be read.
fn server_for_two() -> (Server, NamedTempFile) {
    let tokens = tokens();
    let server = Server::builder()
        .env("WASM_API_TOKENS_FILE", tokens.path().to_str().expect("a plain path"))
        .env("WASM_CPU_MS_BUDGET", "20000")
        .start();
    (server, tokens)
}

fn upload_as(server: &Server, who: &str, name: &str) -> String {
    let response = server.request("PUT", "/v1/modules", &[("Authorization", who)], &guest(name));
    assert_eq!(response.status, 201, "{}", response.text());
    response.json()["cid"].as_str().expect("a CID").to_owned()
}

fn exec_as(server: &Server, who: &str, request: &Value, prefer: &str) -> Response {
    server.exec(request.clone()).header("Authorization", who).header("Prefer", prefer).send()
}

#[test]
fn without_a_token_that_is_known_nothing_is_done() {
    let (server, _tokens) = server_for_two();
    let cid = upload_as(&server, ANNA, "add");
    let request = json!({"target": {"cid": cid}, "entry": "add", "args": [2, 3]});
    let answers = [
        server.exec(request.clone()).send(),
        exec_as(&server, "Bearer nobody", &request, "wait=1"),
        exec_as(&server, "Bearer ", &request, "wait=1"),
        exec_as(&server, "Basic YW5uYTphbm5h", &request, "wait=1"),
        exec_as(&server, "Bearer anna", &request, "wait=1"),
        server.put_module(&guest("add")),
        server.get("/v1/runs/wasm_01jd0000000000000000000000"),
        server.get(&format!("/v1/modules/{cid}")),
    ];
    for answer in answers {
        assert_eq!((answer.status, answer.problem().as_str()), (401, "unauthorized"));
        assert!(answer.header("www-authenticate").is_some_and(|how| how.starts_with("Bearer")));
    }
    // What a load balancer asks needs none.
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/readyz").status, 200);
    assert_eq!(exec_as(&server, ANNA, &request, "wait=30").json()["result"], 5);
}

#[test]
fn another_tenants_run_does_not_exist() {
    let (server, _tokens) = server_for_two();
    let cid = upload_as(&server, ANNA, "add");
    let request = json!({"target": {"cid": cid}, "entry": "add", "args": [2, 3]});
    let id = exec_as(&server, ANNA, &request, "wait=30").json()["run_id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/runs/{id}");
    assert_eq!(server.request("GET", &path, &[("Authorization", ANNA)], &[]).status, 200);
    let theirs = server.request("GET", &path, &[("Authorization", BERT)], &[]);
    assert_eq!((theirs.status, theirs.problem().as_str()), (404, "run_not_found"));
}

#[test]
fn a_key_belongs_to_its_tenant() {
    let (server, _tokens) = server_for_two();
    let request = |who: &str| {
        let cid = upload_as(&server, who, "add");
        json!({"target": {"cid": cid}, "entry": "add", "args": [2, 3], "idempotency_key": "same"})
    };
    let first = exec_as(&server, ANNA, &request(ANNA), "wait=30").json();
    let second = exec_as(&server, BERT, &request(BERT), "wait=30").json();
    assert_eq!((&first["result"], &second["result"]), (&json!(5), &json!(5)));
    assert_ne!(first["run_id"], second["run_id"]);
}

#[test]
fn two_tenants_share_no_process_even_for_the_same_module() {
    let (server, _tokens) = server_for_two();
    for who in [ANNA, BERT] {
        let cid = upload_as(&server, who, "loop");
        let accepted = exec_as(&server, who, &json!({"target": {"cid": cid}, "entry": "forever"}), "wait=0");
        assert_eq!(accepted.status, 202, "{}", accepted.text());
    }
    let busy = eventually_some("two busy run processes", Duration::from_secs(10), || {
        let busy: Vec<_> =
            server.processes("void-run").into_iter().filter(|process| process.cpu_ticks() >= 3).collect();
        (busy.len() == 2).then_some(busy)
    });
    assert_ne!(busy[0].parent(), busy[1].parent(), "a zygote of its own");
}

#[test]
fn the_form_of_a_request_is_looked_at_before_its_token() {
    let (server, _tokens) = server_for_two();
    let large = vec![b' '; (1 << 20) + 1];
    let cid = "bafkreibhmtmv24yn2zu7udv53bwwvgrylzhbep2e52p72tly7wjiufzpom";
    for (body, status, code) in [
        (large, 413, "payload_too_large"),
        (b"{".to_vec(), 400, "malformed_json"),
        (b"{\"nonsense\":1}".to_vec(), 400, "unknown_field"),
        (b"{\"target\":7}".to_vec(), 400, "invalid_field"),
        // What has the form and cannot be is only told to those who may call.
        (b"{\"target\":{\"cid\":\"nonsense\"}}".to_vec(), 401, "unauthorized"),
        (format!("{{\"target\":{{\"cid\":\"{cid}\"}}}}").into_bytes(), 401, "unauthorized"),
    ] {
        let answer = server.exec_raw(body).send();
        assert_eq!((answer.status, answer.problem().as_str()), (status, code));
    }
    let answer = server.exec_raw("{\"target\":{\"cid\":\"nonsense\"}}").header("Authorization", ANNA).send();
    assert_eq!((answer.status, answer.problem().as_str()), (422, "invalid_target"));
}

#[test]
fn a_tenant_does_not_hide_the_refusals_of_another_in_the_log() {
    let (server, _tokens) = server_for_two();
    // Each run is refused one call, for want of the capability.
    let mut caller = Caller::new();
    let word = caller.bytes(b"x");
    let code = format!("(func (export \"say\") (drop (call $kv_delete {word} {word})))");
    let module = caller.code(&code).build();
    let upload = |who: &str| {
        let response = server.request("PUT", "/v1/modules", &[("Authorization", who)], &module);
        response.json()["cid"].as_str().expect("a CID").to_owned()
    };
    let run = |who: &str, cid: &str| {
        let answer =
            exec_as(&server, who, &json!({"target": {"cid": cid}, "entry": "say"}), "wait=30").json();
        assert_eq!(answer["denials"][0]["rule"], "cap_missing", "{answer}");
        answer["run_id"].as_str().expect("an id").to_owned()
    };
    let (anna, bert) = (upload(ANNA), upload(BERT));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                run(ANNA, &anna);
            }
        });
        server.logs(&["gateway calls were denied too fast"]);
        let told: Vec<_> = (0..5).map(|_| run(BERT, &bert)).collect();
        done.store(true, Ordering::Relaxed);
        told.iter().for_each(|id| drop(server.logs(&["a gateway call was denied", id, "bert"])));
    });
}
