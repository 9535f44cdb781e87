//! What a guest is given of an answer to `http.fetch`: its status, its headers, and its body in which encoding. Through real
//! sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use void_tests::{Request, Server, Upstream, code, fetch, fetching, gzip, reply};

const TOO_LARGE: i64 = -3;
const UNREACHABLE: i64 = -8;

/// The bytes of the one event of that name.
fn emitted(server: &Server, run_id: &str, name: &str) -> Vec<u8> {
    server.emitted(run_id).into_iter().find(|(event, _)| event == name).expect("the event").1
}

#[test]
fn any_status_is_an_answer() {
    let host = Upstream::start(|asked, to| {
        let status = format!("{} X", asked.target().trim_start_matches('/'));
        reply(to, &status, &[], b"b")
    });
    let server = fetching(&host.place()).start();
    for status in [200, 201, 300, 301, 400, 404, 418, 500, 503, 599] {
        assert_eq!(code(&fetch(&server, Request::get(&format!("http://{}/{status}", host.place())))), status);
    }
}

#[test]
fn what_is_said_of_the_connection_does_not_reach_the_guest() {
    let host = Upstream::start(|_, to| {
        let lines = ["Connection: X-Hop, keep-alive", "X-Hop: 1", "Keep-Alive: timeout=5", "X-End: 2"];
        reply(to, "200 OK", &lines, b"")
    });
    let server = fetching(&host.place()).start();
    let run = fetch(&server, Request::get(&format!("http://{}/", host.place())));
    let headers = server.emitted_text(run.id(), "headers").to_lowercase();
    assert!(headers.contains("x-end: 2"), "{headers}");
    for hidden in ["x-hop", "keep-alive", "connection"] {
        assert!(!headers.contains(hidden), "{headers}");
    }
}

#[test]
fn an_answer_has_as_many_headers_as_fit() {
    let host = Upstream::start(|asked, to| {
        let (count, length) = asked.target().trim_start_matches('/').split_once('/').expect("/count/length");
        let value = "v".repeat(length.parse().expect("a length"));
        let lines: Vec<String> =
            (0..count.parse().expect("a count")).map(|number| format!("X-{number}: {value}")).collect();
        reply(to, "200 OK", &lines.iter().map(String::as_str).collect::<Vec<_>>(), b"")
    });
    let server = fetching(&host.place()).start();
    for (path, expected) in
        [("101/1", 200), ("998/40", 200), ("999/1", UNREACHABLE), ("60/1000", 200), ("70/1000", TOO_LARGE)]
    {
        let run = fetch(&server, Request::get(&format!("http://{}/{path}", host.place())));
        assert_eq!(code(&run), expected, "{path}");
    }
}

#[test]
fn a_status_that_there_is_not_is_no_answer() {
    let host = Upstream::start(|asked, to| {
        reply(to, &format!("{} X", asked.target().trim_start_matches('/')), &[], b"b")
    });
    let server = fetching(&host.place()).start();
    for status in [600, 700, 999] {
        let run = fetch(&server, Request::get(&format!("http://{}/{status}", host.place())));
        assert_eq!(code(&run), UNREACHABLE, "{status}");
    }
    assert_eq!(server.metrics().sum("void_wasm_fetches_total", &[("outcome", "unreachable")]), 3.0);
}

#[test]
fn an_encoding_is_undone_once_or_left_with_its_name() {
    let inner = gzip(b"inner");
    let twice = gzip(&inner);
    let (once, raw) = (inner.clone(), twice.clone());
    let host = Upstream::start(move |asked, to| {
        let lines: &[&str] = match asked.target() {
            "/GZIP" => &["Content-Encoding: GZIP"],
            "/x-gzip" => &["Content-Encoding: x-gzip"],
            "/with-identity" => &["Content-Encoding: identity", "Content-Encoding: gzip"],
            "/lines" => &["Content-Encoding: gzip", "Content-Encoding: gzip"],
            "/list" => &["Content-Encoding: gzip, gzip"],
            _ => &["Content-Encoding: br"],
        };
        let body = if matches!(asked.target(), "/lines" | "/list") { &raw } else { &once };
        reply(to, "200 OK", lines, body)
    });
    let server = fetching(&host.place()).start();
    for (path, undone) in [
        ("GZIP", true),
        ("x-gzip", true),
        ("with-identity", true),
        ("lines", false),
        ("list", false),
        ("br", false),
    ] {
        let run = fetch(&server, Request::get(&format!("http://{}/{path}", host.place())));
        let headers = server.emitted_text(run.id(), "headers").to_lowercase();
        assert_eq!(headers.contains("content-encoding:"), !undone, "{path}: {headers}");
        let body = if undone {
            assert!(!headers.contains("content-length:"), "{path}: {headers}");
            b"inner".to_vec()
        } else if path == "br" {
            inner.clone()
        } else {
            twice.clone()
        };
        assert_eq!(emitted(&server, run.id(), "body"), body, "{path}");
    }
    // As they came, not as they were decoded.
    let received = server.metrics().sum("void_wasm_fetch_received_bytes_total", &[]);
    assert_eq!(received, (4 * inner.len() + 2 * twice.len()) as f64);
}

#[test]
fn a_body_that_never_gives_anything_is_broken_off() {
    let member = gzip(b"");
    let host = Upstream::start(move |asked, to| {
        let (encoding, piece) = match asked.target() {
            "/members" => ("gzip", member.repeat(100)),
            _ => ("deflate", [0, 0, 0, 255, 255].repeat(1000)),
        };
        write!(to, "HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nConnection: close\r\n\r\n")?;
        // Until nobody reads any more.
        loop {
            to.write_all(&piece)?;
        }
    });
    let server = fetching(&host.place()).env("WASM_HTTP_MAX_BYTES", "1000000").start();
    for (path, most) in [("members", 1000 * gzip(b"").len()), ("blocks", 1_000_000 + 125_000 + 65_536)] {
        let before = server.metrics().sum("void_wasm_fetch_received_bytes_total", &[]);
        let run = fetch(&server, Request::get(&format!("http://{}/{path}", host.place())));
        assert_eq!(code(&run), TOO_LARGE, "{path}");
        let received = server.metrics().sum("void_wasm_fetch_received_bytes_total", &[]) - before;
        // And no more of it than one read.
        assert!(received > most as f64 && received < (most + 1_000_000) as f64, "{path}: {received}");
    }
}
