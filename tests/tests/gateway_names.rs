//! `http.fetch` by name, over TLS, and with the operator's secrets: on a network of the test's own, with public addresses that
//! are on no wire and a name server that says what the test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use void_tests::{
    Asked, Caller, Island, Request, Stream, Upstream, code, denied_by, echo, fetch, fetching, gzip, reply,
    test_ca, tests_run_as_root,
};

const UNREACHABLE: i64 = -8;
const UNAVAILABLE: i64 = -9;

const PUBLIC: &str = "93.184.216.34";
const PUBLIC_TOO: &str = "198.41.0.4";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn needs_root() -> bool {
    if !tests_run_as_root() {
        eprintln!("not as root: a network of one's own cannot be made, so this test says nothing here");
    }
    !tests_run_as_root()
}

#[test]
fn a_name_that_changes_its_mind_leads_nowhere() {
    if needs_root() {
        return;
    }
    // The first look-up says a public address, every other one an inner one.
    let island = Island::enter(&[PUBLIC], |name, turn| match name {
        "rebind.test" if turn % 2 == 0 => vec![ip(PUBLIC)],
        "rebind.test" => vec![ip("127.88.0.1")],
        "mixed.test" => vec![ip(PUBLIC), ip("127.88.0.1")],
        _ => vec![],
    });
    let public = Upstream::at(&format!("{PUBLIC}:80"), echo);
    let inner = Upstream::at("127.88.0.1:80", echo);
    let server = fetching("rebind.test,mixed.test,none.test").start();
    let rebind = server.upload(&Caller::new().fetch("f", Request::get("http://rebind.test/")).build());
    for turn in 0..6 {
        let run = server.run(&rebind, "f", json!([]));
        // One look-up for each request, and the connection goes to what that one said.
        assert_eq!(island.look_ups("rebind.test"), turn + 1);
        if turn % 2 == 0 {
            assert_eq!(code(&run), 200, "{}", run.record());
        } else {
            denied_by(&run, "address_not_public");
        }
    }
    denied_by(&fetch(&server, Request::get("http://mixed.test/")), "address_not_public");
    assert_eq!(code(&fetch(&server, Request::get("http://none.test/"))), UNREACHABLE);
    assert_eq!((public.connections(), inner.connections()), (3, 0));
    assert_eq!(
        server.metrics().sum("void_wasm_policy_denied_total", &[("reason", "address_not_public")]),
        4.0
    );
}

#[test]
fn an_inner_address_is_reached_only_where_it_is_named_literally() {
    if needs_root() {
        return;
    }
    let _island = Island::enter(&[PUBLIC], |name, _| match name {
        "inner.test" => vec![ip("127.88.0.1")],
        _ => vec![],
    });
    let _inner = ["127.88.0.1:80", "127.88.0.1:8080", "127.0.0.1:80"].map(|place| Upstream::at(place, echo));
    for (allowlist, url, expected) in [
        ("inner.test", "http://inner.test/", None),
        ("*.test", "http://inner.test/", None),
        ("inner.test:80", "http://inner.test/", Some(200)),
        ("inner.test:8080", "http://inner.test:8080/", Some(200)),
        ("127.88.0.1", "http://127.88.0.1/", Some(200)),
        // An address that is named, at its port, is open to the names that are allowed.
        ("inner.test,127.88.0.1", "http://inner.test/", Some(200)),
        ("*.test,127.88.0.1:80", "http://inner.test/", Some(200)),
        ("localhost,127.0.0.1", "http://localhost/", Some(200)),
        ("inner.test,127.88.0.2", "http://inner.test/", None),
        ("inner.test,127.88.0.1:8080", "http://inner.test/", None),
    ] {
        let run = fetch(&fetching(allowlist).start(), Request::get(url));
        match expected {
            Some(status) => assert_eq!(code(&run), status, "{allowlist} {url}"),
            None => denied_by(&run, "address_not_public"),
        }
    }
}

#[test]
fn of_however_many_addresses_each_must_be_public() {
    if needs_root() {
        return;
    }
    let public = || (0..25).map(|_| PUBLIC).chain((1..=25).map(|_| PUBLIC_TOO));
    let _island = Island::enter(&[PUBLIC, PUBLIC_TOO], move |name, _| match name {
        "many.test" => public().map(ip).collect(),
        // The resolver puts an address without a way to it last.
        "hidden.test" => public().chain(["10.0.0.1"]).map(ip).collect(),
        _ => vec![],
    });
    let _host = Upstream::at(&format!("{PUBLIC}:80"), echo);
    let server = fetching("many.test,hidden.test").start();
    assert_eq!(code(&fetch(&server, Request::get("http://many.test/"))), 200);
    denied_by(&fetch(&server, Request::get("http://hidden.test/")), "address_not_public");
}

#[test]
fn certificates_that_come_later_are_found() {
    if needs_root() {
        return;
    }
    let _island =
        Island::enter(&[PUBLIC], |name, _| if name == "api.test" { vec![ip(PUBLIC)] } else { vec![] });
    let host = Upstream::tls(&format!("{PUBLIC}:443"), echo);
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("ca.pem");
    let server = fetching("api.test")
        .env("SSL_CERT_FILE", file.to_str().unwrap())
        .env("SSL_CERT_DIR", "/nonexistent")
        .start();
    assert_eq!(code(&fetch(&server, Request::get("https://api.test/"))), UNAVAILABLE);
    std::fs::copy(test_ca(), &file).unwrap();
    assert_eq!(code(&fetch(&server, Request::get("https://api.test/"))), 200);
    assert_eq!(host.asked().len(), 1);
}

#[test]
fn tls_is_spoken_with_who_the_certificate_names() {
    if needs_root() {
        return;
    }
    let _island =
        Island::enter(&[PUBLIC], |name, _| if name.ends_with(".test") { vec![ip(PUBLIC)] } else { vec![] });
    let host = Upstream::tls(&format!("{PUBLIC}:443"), echo);
    let server = fetching("api.test,unnamed.test,93.184.216.34").env("SSL_CERT_FILE", &test_ca()).start();
    assert_eq!(code(&fetch(&server, Request::get("https://api.test/x"))), 200);
    assert_eq!(code(&fetch(&server, Request::get("https://API.TEST.:443/x"))), 200);
    assert_eq!(code(&fetch(&server, Request::get(&format!("https://{PUBLIC}/")))), 200);
    assert_eq!(
        code(&fetch(&server, Request::get("https://unnamed.test/"))),
        UNREACHABLE,
        "its certificate has another name"
    );
    assert_eq!(host.asked().len(), 3);
    let distrusting = fetching("api.test").start();
    assert_eq!(code(&fetch(&distrusting, Request::get("https://api.test/"))), UNREACHABLE);
    assert_eq!(host.asked().len(), 3, "nothing is said to a host that is not trusted");
}

fn secrets(lines: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lines.as_bytes()).unwrap();
    file
}

const SECRET: &str = "Bearer s3cr3t-\"token\"/value";

#[test]
fn a_secret_goes_to_its_host_and_no_further_and_the_guest_never_sees_it() {
    if needs_root() {
        return;
    }
    let _island = Island::enter(&[PUBLIC, PUBLIC_TOO], |name, _| match name {
        "api.test" => vec![ip(PUBLIC)],
        "other.test" => vec![ip(PUBLIC_TOO)],
        _ => vec![],
    });
    let answer = |asked: &Asked, to: &mut dyn Stream| match asked.target() {
        "/away" => reply(to, "302 Found", &["Location: https://other.test/landed"], b""),
        "/down" => reply(to, "302 Found", &["Location: http://api.test/plain"], b""),
        "/near" => reply(to, "302 Found", &["Location: /echo"], b""),
        "/there-and-back" => reply(to, "302 Found", &["Location: https://other.test/back"], b""),
        "/back" => reply(to, "302 Found", &["Location: https://api.test/echo"], b""),
        "/leak" => {
            let secret = asked
                .header("authorization")
                .unwrap_or_default()
                .replace(' ', "%20")
                .replace('"', "%22")
                .replace('/', "%2F");
            reply(to, "302 Found", &[&format!("Location: https://other.test/?{secret}")], b"")
        }
        "/header" => {
            let line = format!("X-Echo: <{}>", asked.header("authorization").unwrap_or_default());
            reply(to, "200 OK", &[&line], b"")
        }
        "/pieces" => {
            write!(to, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")?;
            for byte in asked.headers.join("\n").bytes() {
                write!(to, "1\r\n{}\r\n", byte as char)?;
                to.flush()?;
            }
            write!(to, "0\r\n\r\n")
        }
        "/gzip" => {
            reply(to, "200 OK", &["Content-Encoding: gzip"], &gzip(asked.headers.join("\n").as_bytes()))
        }
        "/leak-spelled" => {
            let secret: String = asked
                .header("authorization")
                .unwrap_or_default()
                .bytes()
                .map(|b| format!("%{b:02x}"))
                .collect();
            reply(to, "302 Found", &[&format!("Location: https://other.test/?{secret}")], b"")
        }
        "/br" => reply(to, "200 OK", &["Content-Encoding: br"], asked.headers.join("\n").as_bytes()),
        "/json" => {
            let text = serde_json::to_string(&asked.headers).unwrap();
            reply(to, "200 OK", &[], text.as_bytes())
        }
        _ => echo(asked, to),
    };
    let api = Upstream::tls(&format!("{PUBLIC}:443"), answer);
    let plain = Upstream::at(&format!("{PUBLIC}:80"), answer);
    let other = Upstream::tls(&format!("{PUBLIC_TOO}:443"), answer);
    let file = secrets(&format!(
        "# the operator's\napi.test Authorization {SECRET}\nother.test X-Key other-secret-value\n"
    ));
    let server = fetching("api.test,other.test")
        .env("SSL_CERT_FILE", &test_ca())
        .env("WASM_HTTP_SECRETS_FILE", file.path().to_str().unwrap())
        .env("RUST_LOG", "debug")
        .start();
    let sent = |host: &Upstream| {
        host.asked().last().and_then(|asked| asked.header("authorization").map(ToOwned::to_owned))
    };
    let get = |path: &str| {
        fetch(&server, Request::get(&format!("https://api.test{path}")).with("Authorization: guess\n"))
    };

    // Added, over the guest's own, and taken out of every kind of echo.
    let mut seen = String::new();
    for path in ["/echo", "/near", "/pieces", "/gzip", "/json", "/header"] {
        let run = get(path);
        assert_eq!((code(&run), sent(&api).as_deref()), (200, Some(SECRET)), "{path}");
        let told = server.emitted_text(run.id(), "headers") + &server.emitted_text(run.id(), "body");
        assert!(told.contains("***") && !told.contains("guess"), "{path}: {told}");
        seen += &told;
    }
    // What cannot be searched is not handed on, nor a piece of anything.
    denied_by(&get("/br"), "secret");
    let asked = api.asked().len();
    denied_by(&fetch(&server, Request::get("https://api.test/echo").with("Range: bytes=0-20\n")), "secret");
    assert_eq!(api.asked().len(), asked);
    // To nobody else: not to another host, not in the clear, not back again, not in a URL.
    let run = get("/away");
    assert_eq!((code(&run), sent(&other)), (200, None));
    assert_eq!(
        other.asked().last().unwrap().header("x-key"),
        None,
        "and a redirect brings nobody another's secret"
    );
    let run = get("/there-and-back");
    assert_eq!((code(&run), sent(&api)), (200, None));
    let run = get("/down");
    assert_eq!((code(&run), plain.connections()), (200, 1));
    assert_eq!(sent(&plain), None);
    let run = fetch(&server, Request::get("http://api.test/echo"));
    assert_eq!((code(&run), sent(&plain)), (200, None));
    let others = other.asked().len();
    denied_by(&get("/leak"), "secret");
    denied_by(&get("/leak-spelled"), "secret");
    assert_eq!(other.asked().len(), others);
    // By itself the other host has its own.
    assert_eq!(code(&fetch(&server, Request::get("https://other.test/"))), 200);
    assert_eq!(other.asked().last().unwrap().header("x-key"), Some("other-secret-value"));

    seen += &server.get("/v1/policy").text();
    seen += &server.get("/metrics").text();
    seen += &server.get("/v1/runs?limit=500").text();
    seen += &server.log();
    for part in ["s3cr3t", "other-secret-value"] {
        assert!(!seen.contains(part), "{part} was told");
    }
}

#[test]
fn a_secret_is_replaced_by_a_reload_and_a_bad_file_stops_the_start_without_repeating_it() {
    let host = Upstream::start(echo);
    let file = secrets(&format!("{} X-Key first-secret\n", host.place()));
    let path = file.path().to_str().unwrap().to_owned();
    let server = fetching(&host.place()).env("WASM_HTTP_SECRETS_FILE", &path).start();
    let cid =
        server.upload(&Caller::new().fetch("f", Request::get(&format!("http://{}/", host.place()))).build());
    let turns = AtomicUsize::new(0);
    let sent = || {
        assert_eq!(code(&server.run(&cid, "f", json!([]))), 200);
        host.asked()[turns.fetch_add(1, Ordering::Relaxed)].header("x-key").map(ToOwned::to_owned)
    };
    assert_eq!(sent().as_deref(), Some("first-secret"));
    std::fs::write(&path, format!("{} X-Key second-secret\n", host.place())).unwrap();
    assert!(server.reload());
    assert_eq!(sent().as_deref(), Some("second-secret"));
    std::fs::write(&path, format!("{} Host third-secret\n", host.place())).unwrap();
    assert!(!server.reload());
    assert_eq!(sent().as_deref(), Some("second-secret"));
    assert!(!server.log().contains("-secret"), "{}", server.log());

    let exited = fetching("a.test").env("WASM_HTTP_SECRETS_FILE", &path).refuses_to_start();
    exited.with_code(78).and_says(&["WASM_HTTP_SECRETS_FILE", "line 1"]);
    assert!(!exited.log.contains("third-secret"));
}
