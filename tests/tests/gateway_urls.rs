//! URLs in every form that could mean something else than it seems, each with its verdict: where the request arrives, or
//! which rule refuses it. Through the real service, on a network of the test's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::net::IpAddr;

use serde_json::json;
use void_tests::{Caller, Island, Request, Server, Upstream, reply, tests_run_as_root};

const PUBLIC: &str = "93.184.216.34";

const ALLOWED: &str = "example.test,*.sub.test,port.test:8080,bücher.test,under_score.test,198.41.0.4,127.88.0.1:9080,\
                       [::1]:9080,loop.test,private.test,ten.test,cgnat.test,link.test,metadata.test,zero.test,this.test,\
                       broadcast.test,multicast.test,docs.test,benchmark.test,six.test,mapped.test,compatible.test,nat64.test,\
                       sixtofour.test,teredo.test,unique.test,linksix.test,multisix.test,docsix.test,sitelocal.test,mixed.test,\
                       xn--80ak6aa92e.test";

/// What the names resolve to; every other name under `.test` is public.
fn resolve(name: &str) -> Vec<IpAddr> {
    let addresses: &[&str] = match name {
        "loop.test" => &["127.0.0.1"],
        "private.test" => &["192.168.1.1"],
        "ten.test" => &["10.0.0.1"],
        "cgnat.test" => &["100.64.0.1"],
        "link.test" => &["169.254.1.1"],
        "metadata.test" => &["169.254.169.254"],
        "zero.test" => &["0.0.0.0"],
        "this.test" => &["0.1.2.3"],
        "broadcast.test" => &["255.255.255.255"],
        "multicast.test" => &["224.0.0.1"],
        "docs.test" => &["192.0.2.1"],
        "benchmark.test" => &["198.18.0.1"],
        "six.test" => &["::1"],
        "mapped.test" => &["::ffff:127.0.0.1"],
        "compatible.test" => &["::127.0.0.1"],
        "nat64.test" => &["64:ff9b::7f00:1"],
        "sixtofour.test" => &["2002:7f00:1::"],
        "teredo.test" => &["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
        "unique.test" => &["fd00::1"],
        "linksix.test" => &["fe80::1"],
        "multisix.test" => &["ff02::1"],
        "docsix.test" => &["2001:db8::1"],
        "sitelocal.test" => &["fec0::1"],
        "mixed.test" => &[PUBLIC, "10.0.0.1"],
        name if name.ends_with(".test") => &[PUBLIC],
        _ => &[],
    };
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

/// Arrives, with this in its `Host` header.
const fn at(host: &str) -> Result<&str, &str> {
    Ok(host)
}

const fn by(rule: &str) -> Result<&str, &str> {
    Err(rule)
}

const URLS: &[(&str, Result<&str, &str>)] = &[
    // Plain, and written in other ways.
    ("http://example.test/", at("example.test")),
    ("http://example.test", at("example.test")),
    ("HTTP://EXAMPLE.TEST/", at("example.test")),
    ("http://example.test:80/", at("example.test")),
    ("http://example.test:/", at("example.test")),
    ("http://example.test:0080/", at("example.test")),
    ("http://example.test./", at("example.test.")),
    ("  http://example.test/  ", at("example.test")),
    ("http:example.test/", at("example.test")),
    ("http:/example.test/", at("example.test")),
    ("http:///example.test/", at("example.test")),
    ("http:\\\\example.test\\", at("example.test")),
    ("ht\ntp://exam\tple.test/", at("example.test")),
    ("http://exam%70le.test/", at("example.test")),
    ("http://ｅxample.test/", at("example.test")),
    ("http://example。test/", at("example.test")),
    ("http://exam\u{ad}ple.test/", at("example.test")),
    ("http://example.test/@evil.test", at("example.test")),
    ("http://example.test#@evil.test/", at("example.test")),
    ("http://example.test?@evil.test/", at("example.test")),
    ("http://under_score.test/", at("under_score.test")),
    // Other ports.
    ("http://example.test:8080/", by("host_not_allowed")),
    ("http://example.test:443/", by("host_not_allowed")),
    ("http://port.test:8080/", at("port.test:8080")),
    ("http://port.test/", by("host_not_allowed")),
    ("http://port.test:8081/", by("host_not_allowed")),
    ("http://example.test:0/", by("host_not_allowed")),
    ("http://example.test:65536/", by("bad_url")),
    ("http://example.test:-1/", by("bad_url")),
    ("http://example.test:8o/", by("bad_url")),
    // Below a wildcard, beside it, and its apex.
    ("http://a.sub.test/", at("a.sub.test")),
    ("http://a.b.sub.test/", at("a.b.sub.test")),
    ("http://A.SUB.test/", at("a.sub.test")),
    ("http://sub.test/", by("host_not_allowed")),
    ("http://evilsub.test/", by("host_not_allowed")),
    ("http://evil-sub.test/", by("host_not_allowed")),
    ("http://.sub.test/", by("bad_url")),
    ("http://a..sub.test/", by("bad_url")),
    ("http://*.sub.test/", by("bad_url")),
    ("http://a'b.sub.test/", by("bad_url")),
    ("http://a$(b).sub.test/", by("bad_url")),
    ("http://a.sub.test.evil.test/", by("host_not_allowed")),
    ("http://a.sub.test:8080/", by("host_not_allowed")),
    // Names that look alike, or contain the right one.
    ("http://evilexample.test/", by("host_not_allowed")),
    ("http://example.test.evil.test/", by("host_not_allowed")),
    ("http://www.example.test/", by("host_not_allowed")),
    ("http://example.tes/", by("host_not_allowed")),
    ("http://exаmple.test/", by("host_not_allowed")),
    ("http://evil.test/example.test", by("host_not_allowed")),
    ("http://evil.test?example.test", by("host_not_allowed")),
    ("http://evil.test#example.test", by("host_not_allowed")),
    ("http://evil.test\\.example.test/", by("host_not_allowed")),
    ("http://evil.test\\@example.test/", by("host_not_allowed")),
    ("http://evil.test%2f.example.test/", by("bad_url")),
    ("http://evil.test%00.example.test/", by("bad_url")),
    ("http://evil.test /example.test/", by("bad_url")),
    // International names.
    ("http://bücher.test/", at("xn--bcher-kva.test")),
    ("http://BÜCHER.test/", at("xn--bcher-kva.test")),
    ("http://xn--bcher-kva.test/", at("xn--bcher-kva.test")),
    ("http://bucher.test/", by("host_not_allowed")),
    ("http://аррӏе.test/", at("xn--80ak6aa92e.test")),
    ("http://xn--a.test/", by("bad_url")),
    // Users.
    ("http://user@example.test/", by("userinfo")),
    ("http://user:password@example.test/", by("userinfo")),
    ("http://:password@example.test/", by("userinfo")),
    ("http://example.test@evil.test/", by("userinfo")),
    ("http://evil.test@example.test/", by("userinfo")),
    ("http://example.test:80@evil.test/", by("userinfo")),
    ("http://a@b@example.test/", by("userinfo")),
    ("http://@example.test/", at("example.test")),
    // Schemes.
    ("ftp://example.test/", by("scheme")),
    ("file:///etc/passwd", by("scheme")),
    ("file://example.test/etc/passwd", by("scheme")),
    ("gopher://example.test/", by("scheme")),
    ("ws://example.test/", by("scheme")),
    ("data:text/plain,hello", by("scheme")),
    ("javascript:alert(1)", by("scheme")),
    ("unix:/run/docker.sock", by("scheme")),
    ("http+unix://example.test/", by("scheme")),
    ("view-source:http://example.test/", by("scheme")),
    // No URLs.
    ("", by("bad_url")),
    ("/", by("bad_url")),
    ("//example.test/", by("bad_url")),
    ("example.test", by("bad_url")),
    ("http://", by("bad_url")),
    ("http://:80/", by("bad_url")),
    ("http://[", by("bad_url")),
    ("http://[::1", by("bad_url")),
    ("http://exa<mple.test/", by("bad_url")),
    // An address that is allowed, in all its forms, and others.
    ("http://198.41.0.4/", at("198.41.0.4")),
    ("http://198.41.4/", at("198.41.0.4")),
    ("http://198.2686980/", at("198.41.0.4")),
    ("http://3324575748/", at("198.41.0.4")),
    ("http://0xc6290004/", at("198.41.0.4")),
    ("http://0306.051.0.4/", at("198.41.0.4")),
    ("http://0xc6.0x29.0.0x4/", at("198.41.0.4")),
    ("http://198.41.0.4./", at("198.41.0.4")),
    ("http://１９８.41.0.4/", at("198.41.0.4")),
    ("http://198.41.0.5/", by("host_not_allowed")),
    ("http://198.41.0.4.5/", by("bad_url")),
    ("http://256.41.0.4/", by("bad_url")),
    ("http://4294967296/", by("bad_url")),
    ("http://[::ffff:198.41.0.4]/", by("host_not_allowed")),
    ("http://[64:ff9b::198.41.0.4]/", by("host_not_allowed")),
    // This machine and its neighbours, by address.
    ("http://127.0.0.1/", by("host_not_allowed")),
    ("http://127.1/", by("host_not_allowed")),
    ("http://2130706433/", by("host_not_allowed")),
    ("http://0x7f000001/", by("host_not_allowed")),
    ("http://017700000001/", by("host_not_allowed")),
    ("http://0177.0.0.1/", by("host_not_allowed")),
    ("http://0/", by("host_not_allowed")),
    ("http://localhost/", by("host_not_allowed")),
    ("http://localhost.localdomain/", by("host_not_allowed")),
    ("http://169.254.169.254/latest/meta-data/", by("host_not_allowed")),
    ("http://0xa9fea9fe/", by("host_not_allowed")),
    ("http://[::1]/", by("host_not_allowed")),
    ("http://[0:0:0:0:0:0:0:1]/", by("host_not_allowed")),
    ("http://[::]/", by("host_not_allowed")),
    ("http://[::ffff:127.0.0.1]/", by("host_not_allowed")),
    ("http://[::ffff:7f00:1]/", by("host_not_allowed")),
    ("http://[::127.0.0.1]/", by("host_not_allowed")),
    ("http://[fe80::1%25lo]/", by("bad_url")),
    ("http://[fe80::1%lo]/", by("bad_url")),
    ("http://[v1.x]/", by("bad_url")),
    // Inner addresses that are named literally, with their port.
    ("http://127.88.0.1:9080/", at("127.88.0.1:9080")),
    ("http://127.88.1:9080/", at("127.88.0.1:9080")),
    ("http://0x7f580001:9080/", at("127.88.0.1:9080")),
    ("http://[::1]:9080/", at("[::1]:9080")),
    ("http://[0::0:1]:9080/", at("[::1]:9080")),
    ("http://127.88.0.1/", by("host_not_allowed")),
    ("http://[::ffff:127.88.0.1]:9080/", by("host_not_allowed")),
    // Names that are allowed and lead inside.
    ("http://loop.test/", by("address_not_public")),
    ("http://private.test/", by("address_not_public")),
    ("http://ten.test/", by("address_not_public")),
    ("http://cgnat.test/", by("address_not_public")),
    ("http://link.test/", by("address_not_public")),
    ("http://metadata.test/", by("address_not_public")),
    ("http://zero.test/", by("address_not_public")),
    ("http://this.test/", by("address_not_public")),
    ("http://broadcast.test/", by("address_not_public")),
    ("http://multicast.test/", by("address_not_public")),
    ("http://docs.test/", by("address_not_public")),
    ("http://benchmark.test/", by("address_not_public")),
    ("http://six.test/", by("address_not_public")),
    ("http://mapped.test/", by("address_not_public")),
    ("http://compatible.test/", by("address_not_public")),
    ("http://nat64.test/", by("address_not_public")),
    ("http://sixtofour.test/", by("address_not_public")),
    ("http://teredo.test/", by("address_not_public")),
    ("http://unique.test/", by("address_not_public")),
    ("http://linksix.test/", by("address_not_public")),
    ("http://multisix.test/", by("address_not_public")),
    ("http://docsix.test/", by("address_not_public")),
    ("http://sitelocal.test/", by("address_not_public")),
    ("http://mixed.test/", by("address_not_public")),
];

#[test]
fn each_url_has_its_verdict() {
    if !tests_run_as_root() {
        eprintln!("not as root: a network of one's own cannot be made, so this test says nothing here");
        return;
    }
    let _island = Island::enter(&[PUBLIC, "198.41.0.4"], |name, _| resolve(name));
    let host = |address: &str| {
        Upstream::at(address, |asked, to| {
            reply(to, "200 OK", &[], asked.header("host").unwrap_or_default().as_bytes())
        })
    };
    let _hosts = ["93.184.216.34:80", "93.184.216.34:8080", "198.41.0.4:80", "127.88.0.1:9080", "[::1]:9080"]
        .map(host);
    // Nothing must ever arrive here.
    let traps = ["127.0.0.1:80", "127.0.0.1:8080", "[::1]:80", "127.88.0.1:80"].map(host);
    let server = Server::builder()
        .env("WASM_CAPS", "emit,http")
        .env("WASM_HTTP_ALLOWLIST", ALLOWED)
        .env("WASM_HTTP_RPS", "10000")
        .env("WASM_HTTP_BURST", "10000")
        .start();
    let mut caller = Caller::new();
    for (number, (url, _)) in URLS.iter().enumerate() {
        caller = caller.fetch(&format!("f{number}"), Request::get(url));
    }
    let cid = server.upload(&caller.build());
    let mut wrong = Vec::new();
    for (number, (url, expected)) in URLS.iter().enumerate() {
        let run = server.run(&cid, &format!("f{number}"), json!([]));
        let code = run.result().as_i64().unwrap();
        let rule = run.record()["denials"][0]["rule"].as_str().unwrap_or("none").to_owned();
        let verdict = if code == 200 { Ok(server.emitted_text(run.id(), "body")) } else { Err(rule) };
        let right = match (expected, &verdict) {
            (Ok(host), Ok(arrived)) => host == arrived,
            (Err(expected), Err(rule)) => expected == rule,
            _ => false,
        };
        if !right {
            wrong.push(format!("{url:?}: {expected:?} was expected, and it was {verdict:?} ({code})"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), URLS.len(), wrong.join("\n"));
    assert!(URLS.len() >= 80);
    assert!(traps.iter().all(|trap| trap.connections() == 0), "something arrived inside");
}
