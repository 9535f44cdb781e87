//! Requests: their headers, where they may go, their redirects and their secrets.

use std::net::IpAddr;

use proptest::prelude::*;

use super::tests::{Run, ips};
use super::*;
use crate::address;
use crate::secrets::{Redactor, Secrets};

#[test]
fn addresses_must_all_be_public_unless_named_literally() {
    let inside = [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "::ffff:10.0.0.1",
        "fd00::1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ];
    let permit = Run::fetching("a.com").fetch("https://a.com/").unwrap();
    for ip in inside {
        for resolved in [ips(&[ip]), ips(&["8.8.8.8", ip]), ips(&[ip, "8.8.8.8"])] {
            assert_eq!(permit.connect(&resolved).unwrap_err().rule(), Rule::AddressNotPublic, "{ip}");
        }
        let named = Run::fetching("a.com:443").fetch("https://a.com/").unwrap();
        assert!(named.connect(&ips(&[ip])).is_ok(), "{ip}");
    }
    let granted = permit.connect(&ips(&["8.8.8.8", "2606:4700::1"])).unwrap();
    assert_eq!(granted.addresses(), ["8.8.8.8:443".parse().unwrap(), "[2606:4700::1]:443".parse().unwrap()]);
    assert!(permit.connect(&[]).is_err());
    // A wildcard never opens the inside.
    let wild = Run::fetching("*.a.com").fetch("http://x.a.com/").unwrap();
    assert!(wild.connect(&ips(&["10.0.0.1"])).is_err());
    // An address in the URL is judged like one that was resolved.
    let literal = Run::fetching("10.0.0.1").fetch("http://0xa000001/").unwrap();
    let ip = literal.literal().unwrap();
    assert!(literal.name().is_none() && literal.connect(&[ip]).is_ok());
}

#[test]
fn an_address_that_is_named_is_open_to_every_allowed_name_at_its_port() {
    for (allowlist, url, resolved, open) in [
        ("localhost,127.0.0.1", "http://localhost/", &["127.0.0.1"][..], true),
        ("localhost,127.0.0.1", "https://localhost/", &["127.0.0.1"], true),
        ("localhost,127.0.0.1", "http://localhost/", &["127.0.0.2"], false),
        ("localhost,127.0.0.1", "http://localhost/", &["127.0.0.1", "::1"], false),
        ("localhost,127.0.0.1,[::1]", "http://localhost/", &["127.0.0.1", "::1"], true),
        ("localhost,127.0.0.1", "http://localhost/", &["::ffff:127.0.0.1"], false),
        ("localhost,127.0.0.1:8080", "http://localhost/", &["127.0.0.1"], false),
        ("localhost,127.0.0.1:443", "https://localhost/", &["127.0.0.1"], true),
        ("localhost,127.0.0.1:443", "http://localhost/", &["127.0.0.1"], false),
        ("*.a.com,10.0.0.1", "http://x.a.com/", &["8.8.8.8", "10.0.0.1"], true),
        ("*.a.com,10.0.0.1", "http://x.a.com/", &["8.8.8.8", "10.0.0.2"], false),
    ] {
        let permit = Run::fetching(allowlist).fetch(url).unwrap();
        assert_eq!(permit.connect(&ips(resolved)).is_ok(), open, "{allowlist} {url} {resolved:?}");
    }
    // An address that is named makes no name allowed.
    let denial = Run::fetching("127.0.0.1").fetch("http://localhost/").unwrap_err();
    assert_eq!(denial.rule(), Rule::HostNotAllowed);
}

#[test]
fn all_addresses_are_judged_and_the_first_few_are_tried() {
    let permit = Run::fetching("a.com").fetch("https://a.com/").unwrap();
    let mut many: Vec<IpAddr> = (1..=200).map(|last| IpAddr::from([8, 8, 8, last])).collect();
    many.insert(1, many[0]);
    let tried = permit.connect(&many).unwrap();
    let expected: Vec<_> = (1..=8).map(|last| ([8, 8, 8, last], 443).into()).collect();
    assert_eq!(tried.addresses(), expected);
    many.push(IpAddr::from([10, 0, 0, 1]));
    assert_eq!(permit.connect(&many).unwrap_err().rule(), Rule::AddressNotPublic);
}

#[test]
fn no_remedy_is_one_that_would_be_refused() {
    for (url, remedy) in [
        ("http://b.com:0/", "give a port from 1 to 65535"),
        ("http://b.com:8080/", "add b.com:8080 to WASM_HTTP_ALLOWLIST"),
        ("http://[::1]/", "add [::1] to WASM_HTTP_ALLOWLIST"),
    ] {
        let denial = Run::fetching("a.com").fetch(url).unwrap_err();
        assert_eq!((denial.rule(), denial.remedy()), (Rule::HostNotAllowed, remedy), "{url}");
    }
}

#[test]
fn methods_and_headers() {
    let mut run = Run::fetching("a.com");
    let mut ask = |method: &str, headers: &[(&str, &str)], body: usize| {
        run.call(Call::Fetch(FetchAsk {
            method: method.into(),
            url: "https://a.com/".into(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                .collect(),
            body: vec![0; body],
        }))
        .map_err(|denial| denial.rule())
    };
    assert!(ask("Post", &[("X-A", " b "), ("Authorization", "c")], 10).is_ok());
    for method in ["CONNECT", "TRACE", "", "GET ", "G\nET"] {
        assert_eq!(ask(method, &[], 0), Err(Rule::Method), "{method}");
    }
    for header in [
        ("Host", "x"),
        ("TRANSFER-ENCODING", "chunked"),
        ("content-length", "1"),
        ("Proxy-Authorization", "x"),
        ("proxy-whatever", "x"),
        ("X-Forwarded-Host", "x"),
        ("X-Forwarded", "x"),
        ("x-forwardedfor", "x"),
        ("Forwarded", "for=x"),
        ("X-Real-IP", "x"),
        ("True-Client-IP", "x"),
        ("CF-Connecting-IP", "x"),
        ("X-Client-IP", "x"),
        ("X-Cluster-Client-IP", "x"),
        ("X-Host", "x"),
        ("X-Original-Host", "x"),
        ("X-Original-URL", "x"),
        ("X-Rewrite-URL", "x"),
        ("Front-End-Https", "on"),
    ] {
        assert_eq!(ask("GET", &[header], 0), Err(Rule::Header), "{header:?}");
    }
    for header in [
        ("", "x"),
        ("a b", "x"),
        ("a:", "x"),
        ("a\r\nb", "x"),
        ("a", "x\r\nHost: y"),
        ("a", "x\ny"),
        ("a", "x\0"),
        ("a", "x\r"),
        ("a", "x\n"),
        ("a", "\r\nx"),
        ("a", "\u{c}x"),
        ("a", "x\u{b}"),
        ("a", "\0"),
        ("ä", "x"),
    ] {
        assert_eq!(ask("GET", &[header], 0), Err(Rule::BadHeader), "{header:?}");
    }
    assert_eq!(ask("GET", &[("a", "b"); 65], 0), Err(Rule::TooLarge));
    assert_eq!(ask("POST", &[], 131_073), Err(Rule::TooLarge));
}

#[test]
fn redirects_are_judged_afresh() {
    let mut run = Run::fetching("a.com,b.com");
    let ask = FetchAsk {
        method: "POST".into(),
        url: "https://a.com/x/y".into(),
        headers: vec![
            ("Authorization".into(), b"s".to_vec()),
            ("Content-Type".into(), b"t".to_vec()),
            ("X-A".into(), b"b".to_vec()),
        ],
        body: vec![1],
    };
    let Ok(Permit::Fetch(first)) = run.call(Call::Fetch(ask)) else { panic!() };
    let follow = |permit: &FetchPermit, status: u16, to: &str| {
        permit.redirect(run.terms(), &run.rates, 0, status, to, &Redactor::default())
    };

    let kept = follow(&first, 307, "../z").unwrap();
    assert_eq!((kept.url().as_str(), kept.method(), kept.body().len()), ("https://a.com/z", "POST", 1));
    assert_eq!(kept.headers().len(), 3);
    let get = follow(&first, 302, "https://b.com/").unwrap();
    assert_eq!((get.method(), get.body().len()), ("GET", 0));
    assert_eq!(get.headers(), [("x-a".to_owned(), b"b".to_vec())]);
    // Another scheme is another origin.
    assert!(
        !follow(&first, 308, "http://a.com/")
            .unwrap()
            .headers()
            .iter()
            .any(|(name, _)| name == "authorization")
    );

    for (to, rule) in [
        ("https://evil.net/", Rule::HostNotAllowed),
        ("//evil.net/", Rule::HostNotAllowed),
        ("http://169.254.169.254/", Rule::HostNotAllowed),
        ("https://u:p@a.com/", Rule::UserInfo),
        ("file:///x", Rule::Scheme),
        ("https://", Rule::BadUrl),
    ] {
        assert_eq!(follow(&first, 302, to).unwrap_err().rule(), rule, "{to}");
    }
    let mut permit = *first;
    for hop in 1..=5 {
        permit = follow(&permit, 302, "/").unwrap();
        assert_eq!(permit.hops(), hop);
    }
    assert_eq!(follow(&permit, 302, "/").unwrap_err().rule(), Rule::TooManyRedirects);
}

#[test]
fn a_secret_is_sent_home_only_and_never_by_the_guest() {
    let secrets = Secrets::parse("a.com Authorization Bearer s3\nb.com X-Key other\n").unwrap();
    let run = &mut Run::fetching("a.com,b.com");
    let mut ask = |url: &str, headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect();
        let call = FetchAsk { method: "GET".into(), url: url.into(), headers, body: vec![] };
        let Ok(Permit::Fetch(permit)) = run.call(Call::Fetch(call)) else { panic!("{url}") };
        *permit
    };
    let home = ask("https://a.com/", &[("AUTHORIZATION", "mine"), ("x-a", "b")]);
    let plain = ask("http://a.com/", &[("authorization", "mine")]);
    let piece = ask("https://a.com/", &[("Range", "bytes=0-1")]);
    let free = ask("http://a.com/", &[("Range", "bytes=0-1")]);
    let outgoing = home.outgoing(&secrets).unwrap();
    assert_eq!(
        outgoing.fields(),
        [("x-a".to_owned(), b"b".to_vec()), ("authorization".to_owned(), b"Bearer s3".to_vec())]
    );
    assert_eq!(outgoing.secrets(), [("authorization".to_owned(), "Bearer s3".to_owned())]);
    assert!(!format!("{outgoing:?}").contains("s3"));
    assert_eq!(plain.outgoing(&secrets).unwrap().fields(), [("authorization".to_owned(), b"mine".to_vec())]);
    assert_eq!(piece.outgoing(&secrets).unwrap_err().rule(), Rule::Secret);
    assert!(free.outgoing(&secrets).is_ok());

    let follow = |permit: &FetchPermit, to: &str| {
        permit.redirect(run.terms(), &run.rates, 0, 302, to, &Redactor::default()).unwrap()
    };
    let near = follow(&home, "/other");
    assert_eq!(near.outgoing(&secrets).unwrap().secrets().len(), 1);
    for away in ["http://a.com/", "https://b.com/"] {
        let away = follow(&near, away);
        assert!(away.outgoing(&secrets).unwrap().secrets().is_empty());
        // Whoever sent the service away may send it back, but not with a secret.
        let back = follow(&away, "https://a.com/");
        assert!(back.outgoing(&secrets).unwrap().secrets().is_empty());
    }
}

#[test]
fn a_redirect_that_carries_a_secret_is_refused_and_its_address_is_told_to_nobody() {
    let secret = "Bearer t0p-S3cret/Value";
    let mut sent = Redactor::default();
    sent.add("authorization", secret);
    let mut run = Run::fetching("a.com,*.b.com");
    let permit = run.fetch("https://a.com/").unwrap();
    for location in [
        "https://x.b.com/?t0p-S3cret/Value",
        "https://x.b.com/?t0p%2dS3cret%2FValue",
        "https://x.b.com/?%74%30%70%2d%53%33%63%72%65%74%2f%56%61%6c%75%65",
        "https://x.b.com/?t0p-S3cret%252FValue",
        "https://x.b.com/t0p-s3cret\tt0p-S3cret/\tValue",
        "/T0P-S3CRET/VALUE",
        "https://evil.net/t0p-S3cret/Value",
        "ftp://t0p-S3cret/Value",
        "https://\u{ff54}0p-s3cret\u{ff0f}value/",
        "https://t\u{ad}0p-S3cret/Value",
        "t0p-S3cret/Value https://",
    ] {
        match permit.redirect(run.terms(), &run.rates, 0, 302, location, &sent) {
            Ok(next) => panic!("{location}: {}", next.url()),
            Err(denial) => {
                let told = denial.to_string().to_lowercase();
                assert!(!told.contains("t0p-s3cret"), "{location}: {told}");
                // One is no URL at all, and names no place.
                assert!(matches!(denial.rule(), Rule::Secret | Rule::BadUrl), "{location}: {told}");
            }
        }
    }
    for (location, rule) in
        [("https://x.b.com/?t0p-S3cret", None), ("https://evil.net/", Some(Rule::HostNotAllowed))]
    {
        let judged = permit.redirect(run.terms(), &run.rates, 0, 302, location, &sent);
        assert_eq!(judged.err().map(|denial| denial.rule()), rule, "{location}");
    }
}

proptest! {
    #[test]
    fn what_may_be_connected_to_is_public_or_named(
        resolved in prop::collection::vec(any::<u32>().prop_map(|bits| match bits % 4 {
            0 => IpAddr::from((0x7f00_0000 | bits >> 24).to_be_bytes()),
            1 => IpAddr::from((0x0a00_0000 | bits >> 24).to_be_bytes()),
            _ => IpAddr::from(bits.to_be_bytes()),
        }), 0..12),
        named in prop::collection::vec(0usize..12, 0..4),
    ) {
        let named: Vec<IpAddr> = named.into_iter().filter_map(|at| resolved.get(at).copied()).collect();
        let allowlist = named.iter().fold("a.com".to_owned(), |list, ip| format!("{list},{ip}"));
        let permit = Run::fetching(&allowlist).fetch("http://a.com/").unwrap();
        let may = |ip: &IpAddr| address::is_public(*ip) || named.contains(ip);
        match permit.connect(&resolved) {
            Ok(granted) => {
                prop_assert!(resolved.iter().all(may));
                prop_assert!((1..=8).contains(&granted.addresses().len()));
                prop_assert!(granted.addresses().iter().all(|a| resolved.contains(&a.ip()) && a.port() == 80));
            }
            Err(_) => prop_assert!(resolved.is_empty() || !resolved.iter().all(may)),
        }
    }
}
