//! `http.fetch` through real sockets: what is sent, what comes back, where it may lead, and what it costs at most.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use void_tests::{Caller, Request, Upstream, code, denied_by, echo, fetch, fetching, gzip, reply};

const DENIED: i64 = -1;
const TOO_LARGE: i64 = -3;
const UNREACHABLE: i64 = -8;
const UNAVAILABLE: i64 = -9;

#[test]
fn a_request_arrives_as_it_was_meant_and_its_answer_comes_back() {
    let host = Upstream::start(echo);
    let server = fetching(&host.place()).start();
    let url = format!("http://{}/path?q=1#fragment", host.place());
    let run = fetch(
        &server,
        Request {
            method: b"post",
            url: url.as_bytes(),
            headers: b"X-Mine: a b\nx-mine2: c\n",
            body: b"hello",
        },
    );
    assert_eq!((code(&run), run.usage("syscalls")), (200, 3));
    assert!(run.record()["denials"].is_null());
    let asked = &host.asked()[0];
    assert_eq!(asked.line, "POST /path?q=1 HTTP/1.1");
    assert_eq!((asked.header("x-mine"), asked.header("x-mine2")), (Some("a b"), Some("c")));
    assert_eq!((asked.header("host"), asked.header("content-length")), (Some(&*host.place()), Some("5")));
    assert!(asked.header("user-agent").is_some_and(|agent| agent.starts_with("void-wasm/")));
    for absent in ["referer", "cookie", "authorization", "proxy-authorization", "via", "x-forwarded-for"] {
        assert_eq!(asked.header(absent), None, "{absent}");
    }
    assert_eq!(asked.body, b"hello");
    let body = server.emitted_text(run.id(), "body");
    assert!(body.starts_with("POST /path?q=1 HTTP/1.1\n") && body.ends_with("\n\nhello"), "{body}");
    let headers = server.emitted_text(run.id(), "headers");
    assert!(headers.lines().any(|line| line.eq_ignore_ascii_case("x-answer: yes")), "{headers}");
    assert!(!headers.to_lowercase().contains("connection:"), "{headers}");
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let run = fetch(
            &server,
            Request { method: method.as_bytes(), url: url.as_bytes(), headers: b"", body: b"" },
        );
        assert_eq!(code(&run), 200, "{method}");
    }
    let metrics = server.metrics();
    assert_eq!(metrics.sum("void_wasm_fetches_total", &[("outcome", "2xx")]), 7.0);
    assert_eq!(metrics.sum("void_wasm_fetch_sent_bytes_total", &[]), 5.0);
    // What `echo` answers; to HEAD nothing but its head.
    let told = host.asked().into_iter().filter(|asked| !asked.line.starts_with("HEAD "));
    let told: usize =
        told.map(|asked| asked.line.len() + asked.headers.join("\n").len() + asked.body.len() + 3).sum();
    assert_eq!(metrics.sum("void_wasm_fetch_received_bytes_total", &[]), told as f64);
    assert_eq!(
        metrics.sum("void_wasm_syscalls_total", &[("kind", "http.fetch"), ("decision", "allow")]),
        7.0
    );
}

#[test]
fn what_belongs_to_the_connection_cannot_be_set_and_nothing_can_be_smuggled_in() {
    let host = Upstream::start(echo);
    let server = fetching(&host.place()).start();
    let url = format!("http://{}/", host.place());
    for line in [
        "Host: evil",
        "hOST: evil",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Connection: keep-alive",
        "Upgrade: h2c",
        "TE: trailers",
        "Trailer: x",
        "Proxy-Authorization: x",
        "Proxy-Connection: x",
        "Keep-Alive: 1",
        "Expect: 100-continue",
        "Via: x",
        "X-Real-IP: 1.1.1.1",
        "X-Original-URL: /admin",
        "X-Forwarded: x",
        "Forwarded: for=x",
        "X-Forwarded-For: 1.1.1.1",
        "X-Forwarded-Host: x",
        "Accept-Encoding: br",
        "HTTP2-Settings: x",
    ] {
        let run = fetch(&server, Request::get(&url).with(&format!("{line}\n")));
        denied_by(&run, "header");
        assert_eq!(code(&run), DENIED, "{line}");
    }
    for line in [
        "X: a\rb",
        "X: a\r\nHost: evil",
        "X: a\r\n\r\nGET / HTTP/1.1",
        "X: a\0b",
        "X\0: a",
        "X Y: a",
        "X\r: a",
        "X: a\x7fb",
        "X: a\r",
        "X: \0",
        ": a",
        "no colon",
    ] {
        let run = fetch(&server, Request::get(&url).with(&format!("{line}\n")));
        assert!(code(&run) < 0, "{line:?}: {}", run.record());
    }
    for method in ["CONNECT", "TRACE", "GET /x HTTP/1.1\r\nX: y\r\n\r\nGET", "G\0T", "", "PROPFIND"] {
        let run = fetch(
            &server,
            Request { method: method.as_bytes(), url: url.as_bytes(), headers: b"", body: b"" },
        );
        assert!(code(&run) < 0, "{method:?}");
    }
    for asked in host.asked() {
        assert!(
            asked.header("host") == Some(&*host.place()) && !asked.headers.join("\n").contains("evil"),
            "{asked:?}"
        );
    }
    // A line break in a URL is taken out by the URL standard, and so begins nothing.
    let run = fetch(&server, Request::get(&format!("http://{}/a\r\nX: evil", host.place())));
    assert_eq!(code(&run), 200);
    let asked = host.asked();
    let last = asked.last().unwrap();
    assert!(last.line == "GET /aX:%20evil HTTP/1.1" && last.header("x").is_none(), "{last:?}");
}

#[test]
fn a_request_without_a_body_says_so_where_a_body_means_something() {
    let host = Upstream::start(echo);
    let server = fetching(&host.place()).start();
    let url = format!("http://{}/", host.place());
    for (method, length) in [
        ("GET", None),
        ("HEAD", None),
        ("DELETE", None),
        ("OPTIONS", None),
        ("POST", Some("0")),
        ("PUT", Some("0")),
        ("PATCH", Some("0")),
    ] {
        let request = Request { method: method.as_bytes(), url: url.as_bytes(), headers: b"", body: b"" };
        assert_eq!(code(&fetch(&server, request)), 200);
        let asked = host.asked();
        let last = asked.last().unwrap();
        assert!(last.line.starts_with(method), "{}", last.line);
        assert_eq!(
            (last.header("content-length"), last.header("transfer-encoding")),
            (length, None),
            "{method}"
        );
        assert_eq!(last.header("accept-encoding"), Some("gzip, deflate"));
    }
}

#[test]
fn without_certificates_plain_http_works() {
    let host = Upstream::start(echo);
    let server = fetching(&host.place())
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent")
        .start();
    assert_eq!(code(&fetch(&server, Request::get(&format!("http://{}/", host.place())))), 200);
    for _ in 0..3 {
        let run = fetch(&server, Request::get(&format!("https://{}/", host.place())));
        assert_eq!(code(&run), UNAVAILABLE);
    }
    assert_eq!(code(&fetch(&server, Request::get(&format!("http://{}/", host.place())))), 200);
    assert_eq!(host.connections(), 2);
    assert_eq!(server.log().matches("trusts no certificates").count(), 1, "{}", server.log());
}

#[test]
fn no_proxy_of_the_environment_is_asked() {
    let host = Upstream::start(echo);
    let proxy = Upstream::start(|_, to| reply(to, "200 OK", &[], b"proxy"));
    let mut builder = fetching(&host.place());
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        builder = builder.env(name, &format!("http://{}", proxy.place()));
    }
    let server = builder.start();
    assert_eq!(code(&fetch(&server, Request::get(&format!("http://{}/", host.place())))), 200);
    assert_eq!((host.connections(), proxy.connections()), (1, 0));
}

#[test]
fn a_body_is_read_up_to_its_limit_and_decompressed_before_it_is_measured() {
    let host = Upstream::start(|asked, to| {
        let (how, size) = asked.target().trim_start_matches('/').split_once('/').expect("/how/size");
        let body = vec![b'x'; size.parse().expect("a size")];
        match how {
            "plain" => reply(to, "200 OK", &[], &body),
            "gzip" => reply(to, "200 OK", &["Content-Encoding: gzip"], &gzip(&body)),
            "broken" => reply(to, "200 OK", &["Content-Encoding: gzip"], &body),
            // Without a length, until the connection ends.
            "open" => {
                write!(to, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                to.write_all(&body)
            }
            "cut" => {
                write!(to, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len() + 1)?;
                to.write_all(&body)
            }
            "liar" => {
                write!(to, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")?;
                to.write_all(&body)
            }
            _ => reply(to, "404 X", &[], b""),
        }
    });
    let server = fetching(&host.place()).env("WASM_HTTP_MAX_BYTES", "100000").start();
    let length = |path: &str| {
        let request = format!("http://{}/{path}", host.place());
        let cid = server.upload(&Caller::new().fetch("f", Request::get(&request)).build());
        code(&server.run(&cid, "f.len", json!([])))
    };
    for how in ["plain", "gzip", "open"] {
        for size in [0, 1, 65_536, 65_537, 99_999, 100_000] {
            assert_eq!(length(&format!("{how}/{size}")), size, "{how}");
        }
        assert_eq!(length(&format!("{how}/100001")), TOO_LARGE, "{how}");
        assert_eq!(length(&format!("{how}/10000000")), TOO_LARGE, "{how}");
    }
    for broken in ["cut/10", "broken/100"] {
        assert_eq!(length(broken), UNREACHABLE, "{broken}");
    }
    assert_eq!(length("liar/10"), TOO_LARGE);
    let metrics = server.metrics();
    assert_eq!(metrics.sum("void_wasm_fetches_total", &[("outcome", "too_large")]), 7.0);
    assert_eq!(
        metrics.sum("void_wasm_syscalls_total", &[("kind", "http.fetch"), ("decision", "error")]),
        9.0
    );
}

#[test]
fn the_largest_body_arrives_whole() {
    let body: Arc<Vec<u8>> = Arc::new((0..16u32 << 20).map(|n| (n / 251) as u8).collect());
    let sent = Arc::clone(&body);
    let host = Upstream::start(move |_, to| reply(to, "200 OK", &[], &sent));
    let server = fetching(&host.place())
        .env("WASM_HTTP_MAX_BYTES", "16777216")
        .env("WASM_CPU_MS_BUDGET", "5000")
        .start();
    let url = format!("http://{}/", host.place());
    let mut caller = Caller::new();
    let parts = [b"GET".as_slice(), url.as_bytes(), b"", b""].map(|part| caller.bytes(part)).join(" ");
    // Adds up all bytes, each piece read over the one before.
    let cid = server.upload(
        &caller
            .code(&format!(
                r#"(func (export "sum") (result i64) (local $at i32) (local $n i32) (local $i i32) (local $sum i64)
              (if (i32.ne (call $http_fetch {parts}) (i32.const 200)) (then unreachable))
              (loop $piece
                (local.set $n (call $http_body (local.get $at) (i32.const 0x100000) (i32.const 1000000)))
                (local.set $i (i32.const 0))
                (block $done (loop $byte
                  (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
                  (local.set $sum (i64.add (local.get $sum)
                    (i64.load8_u (i32.add (i32.const 0x100000) (local.get $i)))))
                  (local.set $i (i32.add (local.get $i) (i32.const 1)))
                  (br $byte)))
                (local.set $at (i32.add (local.get $at) (local.get $n)))
                (br_if $piece (local.get $n)))
              (local.get $sum))"#
            ))
            .build(),
    );
    let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
    assert_eq!(server.run(&cid, "sum", json!([])).result(), &json!(sum.to_string()));
}

#[test]
fn an_answer_without_end_never_lies_in_memory() {
    let endless = Upstream::start(|_, to| {
        write!(to, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        let piece = vec![b'x'; 1 << 20];
        // Until the other side has had enough.
        (0..1000).try_for_each(|_| to.write_all(&piece))
    });
    let server = fetching(&endless.place()).start();
    let cid = server
        .upload(&Caller::new().fetch("f", Request::get(&format!("http://{}/", endless.place()))).build());
    assert_eq!(code(&server.run(&cid, "f", json!([]))), TOO_LARGE);
    let before = server.process().kib("VmRSS");
    for _ in 0..20 {
        assert_eq!(code(&server.run(&cid, "f", json!([]))), TOO_LARGE);
    }
    let after = server.process().kib("VmRSS");
    assert!(after < before + 8 * 1024, "{before} KiB, then {after} KiB");
}

#[test]
fn a_body_that_comes_byte_by_byte_ends_with_the_time_of_the_run() {
    let slow = Upstream::start(|_, to| {
        write!(to, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")?;
        loop {
            to.write_all(b"x")?;
            to.flush()?;
            // The host's slowness is what is tested.
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let server = fetching(&slow.place())
        .env("WASM_HTTP_MAX_BYTES", "1000000")
        .env("WASM_WALL_MS_BUDGET", "600")
        .start();
    let run = fetch(&server, Request::get(&format!("http://{}/", slow.place())));
    run.failed_with("wall_budget");
    assert!(run.usage("wait_ms") >= 300 && run.usage("cpu_ms") < 100, "{}", run.record());
}

#[test]
fn every_redirect_is_judged_afresh() {
    let other = Upstream::start(echo);
    let hidden = Upstream::start(echo);
    let (there, nowhere) = (other.place(), hidden.place());
    let host = Upstream::start(move |asked, to| {
        let location = match asked.target() {
            "/other" => format!("Location: http://{there}/landed"),
            "/hidden" => format!("Location: http://{nowhere}/"),
            "/metadata" => "Location: http://169.254.169.254/latest".to_owned(),
            "/file" => "Location: file:///etc/passwd".to_owned(),
            "/user" => format!("Location: http://user@{there}/"),
            "/relative" => "Location: ../echo".to_owned(),
            "/loop" => "Location: /loop".to_owned(),
            "/none" => "X: y".to_owned(),
            target if target.starts_with("/chain/") => match target[7..].parse::<u32>().expect("a number") {
                0 => return echo(asked, to),
                n => format!("Location: /chain/{}", n - 1),
            },
            _ => return echo(asked, to),
        };
        let status = if asked.line.starts_with("POST") { "303 See" } else { "302 Found" };
        reply(to, status, &[&location], b"gone")
    });
    let server = fetching(&format!("{},{}", host.place(), other.place())).start();
    let at = |path: &str| format!("http://{}{path}", host.place());

    let url = at("/other");
    let run = fetch(&server, Request::get(&url).with("Authorization: mine\nCookie: mine\nX-Kept: yes\n"));
    assert_eq!(code(&run), 200);
    let landed = &other.asked()[0];
    assert_eq!((landed.target(), landed.header("x-kept")), ("/landed", Some("yes")));
    assert_eq!(
        (landed.header("authorization"), landed.header("cookie"), landed.header("referer")),
        (None, None, None)
    );

    let run = fetch(
        &server,
        Request { method: b"POST", url: url.as_bytes(), headers: b"Content-Type: x\n", body: b"secret" },
    );
    assert_eq!(code(&run), 200);
    let landed = &other.asked()[1];
    assert!(
        landed.line.starts_with("GET") && landed.body.is_empty() && landed.header("content-type").is_none()
    );

    denied_by(&fetch(&server, Request::get(&at("/hidden"))), "host_not_allowed");
    denied_by(&fetch(&server, Request::get(&at("/metadata"))), "host_not_allowed");
    denied_by(&fetch(&server, Request::get(&at("/file"))), "scheme");
    denied_by(&fetch(&server, Request::get(&at("/user"))), "userinfo");
    denied_by(&fetch(&server, Request::get(&at("/loop"))), "too_many_redirects");
    denied_by(&fetch(&server, Request::get(&at("/chain/6"))), "too_many_redirects");
    assert_eq!(code(&fetch(&server, Request::get(&at("/chain/5")))), 200);
    assert_eq!(code(&fetch(&server, Request::get(&at("/relative")))), 200);
    assert_eq!(code(&fetch(&server, Request::get(&at("/none")))), 302, "nowhere to go is an answer");
    assert_eq!(hidden.connections(), 0);
}

#[test]
fn each_tenant_and_host_has_a_rate() {
    let (one, two) = (Upstream::start(echo), Upstream::start(echo));
    let server = fetching(&format!("{},{}", one.place(), two.place()))
        .env("WASM_HTTP_RPS", "1")
        .env("WASM_HTTP_BURST", "3")
        .start();
    let (a, b) = (format!("http://{}/", one.place()), format!("http://{}/", two.place()));
    let cid = server.upload(&Caller::new().fetch("a", Request::get(&a)).fetch("b", Request::get(&b)).build());
    let mut codes = Vec::new();
    for _ in 0..5 {
        let run = server.run(&cid, "a", json!([]));
        if code(&run) == -2 {
            denied_by(&run, "host_rate");
            assert!(run.record()["denials"][0]["remedy"].as_str().unwrap().contains("WASM_HTTP_RPS"));
        }
        codes.push(code(&run));
    }
    assert!(codes[..3].iter().all(|code| *code == 200) && codes[3..].contains(&-2), "{codes:?}");
    // The bucket is the host's: both ports of one address share it.
    assert!(one.connections() <= 4 && two.connections() == 0);
    assert!(server.metrics().sum("void_wasm_syscalls_total", &[("decision", "rate_limited")]) >= 1.0);
}

#[test]
fn a_host_that_is_not_there_is_no_denial() {
    let gone = Upstream::start(echo).place();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let silent = Upstream::start(|_, _| Ok(()));
    let noise = Upstream::start(|_, to| to.write_all(b"SSH-2.0-OpenSSH\r\n\r\n"));
    let server = fetching(&format!("{gone},{closed},{},{}", silent.place(), noise.place())).start();
    for place in [closed, silent.place(), noise.place()] {
        let run = fetch(&server, Request::get(&format!("http://{place}/")));
        assert_eq!(code(&run), UNREACHABLE, "{place}");
        assert!(run.record()["denials"].is_null(), "{}", run.record());
    }
    assert_eq!(server.metrics().sum("void_wasm_fetches_total", &[("outcome", "unreachable")]), 3.0);
    assert_eq!(server.metrics().sum("void_wasm_policy_denied_total", &[]), 0.0);
}
