//! HTTP: waiting, methods, connections, and clients that behave badly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::time::{Duration, Instant};

use serde_json::json;
use void_tests::{Server, eventually};

const UNKNOWN_RUN: &str = "/v1/runs/wasm_01jd0000000000000000000000";

#[test]
fn an_accepted_run_is_announced_and_can_be_followed() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let request = json!({
        "target": {"cid": cid},
        "entry": "add(i32,i32)->i32",
        "args": [2, 3],
        "labels": {"repo": "void", "branch": "main"},
    });
    let accepted = server.exec(request).send();
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let body = accepted.json();
    let id = body["run_id"].as_str().expect("an id");
    assert!(id.starts_with("wasm_") && id.len() == 31, "{id}");
    assert_eq!((&body["accepted"], &body["mode"]), (&json!(true), &json!("live")));
    assert_eq!(accepted.header("location"), Some(format!("/v1/runs/{id}").as_str()));
    assert_eq!(accepted.header("retry-after"), Some("1"));
    assert!(accepted.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));

    let run = server.wait_for(id);
    assert_eq!(run.result(), &json!(5));
    let record = run.record();
    assert_eq!(record["run_id"], id);
    assert_eq!(record["mode"], "live");
    assert_eq!(record["target"], json!({"cid": cid}));
    assert_eq!(record["entry"], "add(i32,i32)->i32");
    assert_eq!(record["labels"], json!({"repo": "void", "branch": "main"}));
    for time in ["created_at", "started_at", "finished_at"] {
        let text = record[time].as_str().unwrap_or_else(|| panic!("no {time}: {record}"));
        assert!(text.ends_with('Z') && text.as_bytes()[10] == b'T', "{time}: {text}");
    }
    for figure in ["cpu_ms", "wall_ms", "wait_ms", "mem_pages", "syscalls"] {
        run.usage(figure);
    }
    assert!(record.get("reason").is_none() && record.get("error").is_none(), "{record}");
}

#[test]
fn a_wait_ends_with_the_run() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "500").start();
    let cid = server.upload_guest("loop");
    let request = json!({"target": {"cid": cid}, "entry": "forever"});
    let response = server.exec(request.clone()).header("Prefer", "wait=30").send();
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("preference-applied"), Some("wait=30"));
    assert_eq!(response.json()["reason"], "cpu_budget");

    let id = server.exec(request).start();
    let record = server.get(&format!("/v1/runs/{id}?wait=30")).json();
    assert_eq!(record["reason"], "cpu_budget");
}

#[test]
fn a_wait_that_is_over_before_the_run_says_how_far_it_is() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "10000").start();
    let cid = server.upload_guest("loop");
    let request = json!({"target": {"cid": cid}, "entry": "forever"});
    let begun = Instant::now();
    let response = server.exec(request.clone()).header("Prefer", "wait=1").send();
    assert_eq!(response.status, 202, "{}", response.text());
    assert!(begun.elapsed() >= Duration::from_millis(900), "it did not wait");
    let id = response.json()["run_id"].as_str().expect("an id").to_owned();

    for path in [format!("/v1/runs/{id}"), format!("/v1/runs/{id}?wait=1"), format!("/v1/runs/{id}?wait=0")] {
        let record = server.get(&path).json();
        assert!(matches!(record["status"].as_str(), Some("accepted" | "running")), "{record}");
        assert!(record["result"].is_null() && record.get("finished_at").is_none(), "{record}");
    }
}

#[test]
fn a_wait_that_is_none_is_refused_or_ignored() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let run = server.run(&cid, "add", json!([2, 3]));
    for wait in ["x", "-1", "1.5", ""] {
        let response = server.get(&format!("/v1/runs/{}?wait={wait}", run.id()));
        assert_eq!((response.status, response.problem().as_str()), (400, "invalid_query"), "{wait}");
    }
    // RFC 7240: a preference that cannot be honoured is ignored.
    let request = json!({"target": {"cid": cid}, "entry": "add", "args": [2, 3]});
    for prefer in ["respond-async", "wait=x", "handling=lenient"] {
        assert_eq!(server.exec(request.clone()).header("Prefer", prefer).send().status, 202, "{prefer}");
    }
    let response = server.exec(request).header("Prefer", "respond-async, wait=30").send();
    assert_eq!(response.status, 200);
}

#[test]
fn what_is_not_there_is_not_found() {
    let server = Server::start();
    for (path, code) in [
        ("/status", "not_found"),
        ("/v1", "not_found"),
        ("/v1/nothing", "not_found"),
        ("/v1/exec/", "not_found"),
        ("/v2/exec", "not_found"),
        ("/v1/runs/../../etc/passwd", "not_found"),
        (UNKNOWN_RUN, "run_not_found"),
        ("/v1/runs/nonsense", "run_not_found"),
        ("/v1/runs/wasm_%00", "run_not_found"),
        ("/v1/modules/bafkreibhmtmv24yn2zu7udv53bwwvgrylzhbep2e52p72tly7wjiufzpom", "module_not_found"),
    ] {
        let response = server.get(path);
        assert_eq!((response.status, response.problem().as_str()), (404, code), "{path}");
    }
}

#[test]
fn a_method_that_does_not_fit_is_told_which_do() {
    let server = Server::start();
    for (method, path, allowed) in [
        ("GET", "/v1/exec", "POST"),
        ("DELETE", "/v1/exec", "POST"),
        ("POST", UNKNOWN_RUN, "GET"),
        ("POST", "/v1/modules", "PUT"),
        ("DELETE", "/metrics", "GET"),
        ("PUT", "/health", "GET"),
        ("BREW", "/readyz", "GET"),
    ] {
        let response = server.request(method, path, &[], &[]);
        assert_eq!(
            (response.status, response.problem().as_str()),
            (405, "method_not_allowed"),
            "{method} {path}"
        );
        let allow = response.header("allow").unwrap_or_default();
        assert!(allow.split(',').any(|one| one.trim() == allowed), "{method} {path}: Allow: {allow}");
    }
}

#[test]
fn head_is_get_without_the_body() {
    let server = Server::start();
    let mut client = server.connect();
    let head = client.request("HEAD", "/health", &[], &[]).expect("an answer");
    assert_eq!((head.status, head.body.len()), (200, 0));
    // Had a body followed, it would be taken for the start of the next answer.
    assert_eq!(client.request("GET", "/health", &[], &[]).expect("an answer").status, 200);
}

#[test]
fn a_connection_serves_many_requests() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let mut client = server.connect();
    for turn in 0..50 {
        let body = json!({"target": {"cid": cid}, "entry": "add", "args": [turn, 1]}).to_string();
        let response =
            client.request("POST", "/v1/exec", &[("Prefer", "wait=30")], body.as_bytes()).expect("an answer");
        assert_eq!((response.status, &response.json()["result"]), (200, &json!(turn + 1)));
    }
    // An error does not end it either.
    assert_eq!(client.request("GET", "/nowhere", &[], &[]).expect("an answer").status, 404);
    assert_eq!(client.request("POST", "/v1/exec", &[], b"{").expect("an answer").status, 400);
    assert_eq!(client.request("GET", "/health", &[], &[]).expect("an answer").status, 200);
}

#[test]
fn requests_sent_at_once_are_answered_in_order() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let mut client = server.connect();
    for turn in 0..20 {
        let body = json!({"target": {"cid": cid}, "entry": "add", "args": [turn, 100]}).to_string();
        client.send_request("POST", "/v1/exec", &[("Prefer", "wait=30")], body.as_bytes()).expect("sent");
    }
    for turn in 0..20 {
        let response = client.read_response().expect("an answer");
        assert_eq!(response.json()["result"], turn + 100, "{}", response.text());
    }
}

#[test]
fn what_is_not_http_does_no_harm() {
    let server = Server::start();
    for garbage in [
        b"nonsense\r\n\r\n".as_slice(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/exec HTTP/1.1\r\nHost: t\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/exec HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /v1/exec HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        &[b'A'; 1 << 20],
        &[0; 4096],
    ] {
        let mut client = server.connect();
        let _ = client.send_raw(garbage);
        client.end_of_input();
        if let Ok(response) = client.read_response() {
            assert!((400..500).contains(&response.status), "{}", response.status);
        }
    }
    let many_headers = (0..2000).map(|n| format!("X-{n}: v\r\n")).collect::<String>();
    let mut client = server.connect();
    let _ = client.send_raw(format!("GET /health HTTP/1.1\r\nHost: t\r\n{many_headers}\r\n").as_bytes());
    client.end_of_input();
    if let Ok(response) = client.read_response() {
        assert!((400..500).contains(&response.status), "{}", response.status);
    }
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn slow_clients_do_not_hold_up_others() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let mut slow: Vec<_> = (0..64).map(|_| server.connect()).collect();
    let body = json!({"target": {"cid": cid}, "entry": "add", "args": [40, 2]}).to_string();
    let request = format!(
        "POST /v1/exec HTTP/1.1\r\nHost: test\r\nPrefer: wait=30\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let half = request.len() / 2;
    for client in &mut slow {
        client.send_raw(&request.as_bytes()[..half]).expect("sent");
    }
    for _ in 0..20 {
        assert_eq!(server.run(&cid, "add", json!([2, 3])).result(), &json!(5));
    }
    // Byte by byte they get there, too.
    for byte in request.as_bytes()[half..].iter() {
        slow[0].send_raw(&[*byte]).expect("sent");
    }
    assert_eq!(slow[0].read_response().expect("an answer").json()["result"], 42);
}

#[test]
fn clients_that_hang_up_free_their_slots() {
    let server = Server::builder().env("WASM_WORKERS", "2").env("WASM_CPU_MS_BUDGET", "20000").start();
    let add = server.upload_guest("add");
    let descriptors = || server.process().descriptors().map(|descriptors| descriptors.len());
    assert_eq!(server.run(&add, "add", json!([2, 3])).result(), &json!(5));
    let before = descriptors();

    let body = json!({"target": {"cid": add}, "entry": "add", "args": [2, 3]}).to_string();
    let whole = format!(
        "POST /v1/exec HTTP/1.1\r\nHost: test\r\nPrefer: wait=30\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for turn in 0..200 {
        let mut client = server.connect();
        // Half a head, half a body, or all of it and gone before the answer.
        let sent = [12, whole.len() - 5, whole.len()][turn % 3];
        let _ = client.send_raw(&whole.as_bytes()[..sent]);
    }
    for _ in 0..10 {
        assert_eq!(server.run(&add, "add", json!([2, 3])).result(), &json!(5));
    }
    eventually("the supervisor closes what was left", Duration::from_secs(15), || {
        descriptors().zip(before).is_none_or(|(now, before)| now <= before + 4)
    });
}

#[test]
fn a_client_that_hangs_up_while_its_run_waits_loses_nothing_for_others() {
    let server = Server::builder().env("WASM_WORKERS", "1").env("WASM_CPU_MS_BUDGET", "400").start();
    let cid = server.upload_guest("loop");
    for _ in 0..4 {
        let mut client = server.connect();
        let body = json!({"target": {"cid": cid}, "entry": "forever"}).to_string();
        client.send_request("POST", "/v1/exec", &[("Prefer", "wait=60")], body.as_bytes()).expect("sent");
    }
    // Accepted is accepted: they run, one after the other, and the one slot comes free again.
    assert_eq!(server.run(&cid, "answer", json!([])).result(), &json!(42));
}

#[test]
fn many_connections_at_once_are_all_served() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let mut clients: Vec<_> = (0..200).map(|_| server.connect()).collect();
    let body = json!({"target": {"cid": cid}, "entry": "add", "args": [1, 1]}).to_string();
    for client in &mut clients {
        client.send_request("POST", "/v1/exec", &[("Prefer", "wait=60")], body.as_bytes()).expect("sent");
    }
    for client in &mut clients {
        assert_eq!(client.read_response().expect("an answer").json()["result"], 2);
    }
}

#[test]
fn connection_close_is_honoured() {
    let server = Server::start();
    let mut client = server.connect();
    let response = client.request("GET", "/health", &[("Connection", "close")], &[]).expect("an answer");
    assert_eq!(response.status, 200);
    assert!(client.is_closed_by_server());
}
