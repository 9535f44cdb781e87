//! Every field of a request, wrong in every way: the right status and code, one sentence, and nothing started.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use void_tests::{Process, Server};

/// A CID that is well formed and that nobody has.
const CID: &str = "bafkreibhmtmv24yn2zu7udv53bwwvgrylzhbep2e52p72tly7wjiufzpom";

/// A good request with its parts replaced or added: `T` is the target.
fn with(field: &str) -> String {
    let target = format!(r#""target":{{"cid":"{CID}"}}"#);
    if field.starts_with(r#""target""#) { format!("{{{field}}}") } else { format!("{{{target},{field}}}") }
}

/// A request for that CID.
fn cid(text: &str) -> String {
    with(&format!(r#""target":{{"cid":"{text}"}}"#))
}

/// What the supervisor runs for guests. Nothing of it may appear because of a refused request.
fn guest_processes(server: &Server) -> Vec<Process> {
    let mut all = server.processes("void-run");
    all.extend(server.processes("void-zygote"));
    all.extend(server.processes("void-compiler"));
    all.sort();
    all
}

struct Case {
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    /// What the sentence must name.
    names: &'static str,
}

fn case(status: u16, code: &'static str, names: &'static str, body: impl Into<Vec<u8>>) -> Case {
    Case { body: body.into(), status, code, names }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        // Not JSON, or not an object.
        case(400, "malformed_json", "", ""),
        case(400, "malformed_json", "", " "),
        case(400, "malformed_json", "", "{"),
        case(400, "malformed_json", "", r#"{"target":"#),
        case(400, "malformed_json", "", "{'target': 1}"),
        case(400, "malformed_json", "", with(r#""args":[1,]"#)),
        case(400, "malformed_json", "", with(r#""args":[NaN]"#)),
        case(400, "malformed_json", "", with(r#""args":[01]"#)),
        case(400, "malformed_json", "", format!("{} x", with(r#""args":[]"#))),
        case(400, "malformed_json", "", format!("{0}{0}", with(r#""args":[]"#))),
        case(400, "malformed_json", "", vec![0xff, 0xfe, 0x00]),
        case(400, "malformed_json", "", b"{\"entry\":\"\xff\"}".to_vec()),
        case(400, "malformed_json", "", "\u{feff}{}"),
        case(400, "malformed_json", "", "[]"),
        case(400, "malformed_json", "", "null"),
        case(400, "malformed_json", "", "\"exec\""),
        case(400, "malformed_json", "", "7"),
        // Too deep to be read on any stack.
        case(400, "malformed_json", "", "[".repeat(500_000)),
        // Fields that are unknown, missing, or there twice.
        case(400, "missing_field", "target", "{}"),
        case(400, "missing_field", "target", r#"{"entry":"add"}"#),
        case(400, "unknown_field", "wait", with(r#""wait":true"#)),
        case(400, "unknown_field", "Entry", with(r#""Entry":"add""#)),
        case(400, "unknown_field", "idempotencyKey", with(r#""idempotencyKey":"k""#)),
        case(400, "duplicate_field", "entry", with(r#""entry":"add","entry":"add""#)),
        case(
            400,
            "duplicate_field",
            "target",
            format!(r#"{{"target":{{"cid":"{CID}"}},"target":{{"cid":"{CID}"}}}}"#),
        ),
        // The target.
        case(422, "invalid_target", "target", with(r#""target":{}"#)),
        case(
            422,
            "invalid_target",
            "target",
            with(&format!(r#""target":{{"cid":"{CID}","sha256":"{:064}"}}"#, 0)),
        ),
        case(400, "unknown_field", "url", with(r#""target":{"url":"http://example.com"}"#)),
        case(400, "invalid_field", "cid", with(r#""target":{"cid":7}"#)),
        case(400, "invalid_field", "cid", with(r#""target":{"cid":null}"#)),
        case(422, "invalid_target", "", with(r#""target":{"cid":""}"#)),
        case(422, "invalid_target", "", with(r#""target":{"cid":"bafkrei"}"#)),
        case(422, "invalid_target", "", with(r#""target":{"cid":"not a cid"}"#)),
        case(422, "invalid_target", "", with(r#""target":{"cid":"../../etc/passwd"}"#)),
        case(422, "invalid_target", "", with(&format!(r#""target":{{"cid":"{}"}}"#, &CID[..CID.len() - 1]))),
        case(422, "invalid_target", "", with(&format!(r#""target":{{"cid":"{CID}a"}}"#))),
        case(
            422,
            "invalid_target",
            "",
            with(&format!(r#""target":{{"cid":"{}"}}"#, CID.replace("mtmv", "m1mv"))),
        ),
        case(422, "invalid_target", "", with(&format!(r#""target":{{"cid":"{}"}}"#, "b".repeat(100_000)))),
        // CIDs that say what they are and cannot be verified, or are written wrongly: dag-cbor, an identity hash,
        // sha2-512, a digest that is cut, a base that does not exist, and version 0 in the wrong case.
        case(
            422,
            "invalid_target",
            "dag-cbor",
            cid("bafyreiaha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4"),
        ),
        case(422, "invalid_target", "identity", cid("bafkqabaamfzw2")),
        case(
            422,
            "invalid_target",
            "sha2-512",
            cid(concat!(
                "bafkrgqaha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4",
                "dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqo"
            )),
        ),
        case(422, "invalid_target", "", cid("bafkrefaha4dqobyha4dqobyha4dqobyha4dqoby")),
        case(422, "invalid_target", "", cid(&format!("x{}", &CID[1..]))),
        case(422, "invalid_target", "", cid("qmywapjzv5czsna625s3xf2nemtygpphdwez79ojwnpbdg")),
        case(422, "invalid_target", "", with(r#""target":{"sha256":"sha256:12"}"#)),
        case(
            422,
            "invalid_target",
            "",
            with(r#""target":{"sha256":"md5:d41d8cd98f00b204e9800998ecf8427e"}"#),
        ),
        case(422, "invalid_target", "", with(&format!(r#""target":{{"sha256":"{}"}}"#, "g".repeat(64)))),
        case(
            422,
            "invalid_target",
            "",
            with(&format!(r#""target":{{"sha256":"sha256:{}"}}"#, "0".repeat(63))),
        ),
        case(422, "invalid_target", "", with(r#""target":{"ast_hash":"0e297"}"#)),
        case(422, "invalid_target", "", with(r#""target":{"astHash":"sha256:"}"#)),
        // The entry.
        case(422, "invalid_entry", "i33", with(r#""entry":"add(i33)->i32""#)),
        case(422, "invalid_entry", "funcref", with(r#""entry":"f(funcref)""#)),
        case(422, "invalid_entry", "externref", with(r#""entry":"f()->externref""#)),
        case(422, "invalid_entry", "entry", with(&format!(r#""entry":"{}""#, "e".repeat(1025)))),
        // Arguments against a declared signature.
        case(422, "invalid_args", "2", with(r#""entry":"add(i32,i32)->i32""#)),
        case(422, "invalid_args", "2", with(r#""entry":"add(i32,i32)->i32","args":[1]"#)),
        case(422, "invalid_args", "2", with(r#""entry":"add(i32,i32)->i32","args":[1,2,3]"#)),
        case(422, "invalid_args", "i32", with(r#""entry":"f(i32)","args":[2147483648]"#)),
        case(422, "invalid_args", "i32", with(r#""entry":"f(i32)","args":["1"]"#)),
        case(422, "invalid_args", "i64", with(r#""entry":"f(i64)","args":["x"]"#)),
        case(422, "invalid_args", "v128", with(r#""entry":"f(v128)","args":[0]"#)),
        // Idempotency.
        case(
            422,
            "invalid_value",
            "idempotency_key",
            with(&format!(r#""idempotency_key":"{}""#, "k".repeat(256))),
        ),
        case(422, "invalid_value", "idempotency_key", with(r#""idempotency_key":"""#)),
        // Sizes.
        case(422, "invalid_args", "args", with(&format!(r#""args":[{}0]"#, "0,".repeat(64)))),
        case(422, "invalid_value", "argv", with(&format!(r#""argv":[{}"a"]"#, r#""a","#.repeat(256)))),
        case(422, "invalid_value", "labels", with(&format!(r#""labels":{{"{}":"v"}}"#, "k".repeat(65)))),
        case(422, "invalid_value", "labels", with(&format!(r#""labels":{{"k":"{}"}}"#, "v".repeat(257)))),
        case(
            422,
            "invalid_value",
            "labels",
            with(&format!(
                r#""labels":{{{}}}"#,
                (0..65).map(|i| format!(r#""k{i}":"v""#)).collect::<Vec<_>>().join(",")
            )),
        ),
        case(
            422,
            "invalid_value",
            "env",
            with(&format!(
                r#""env":{{{}}}"#,
                (0..257).map(|i| format!(r#""k{i}":"v""#)).collect::<Vec<_>>().join(",")
            )),
        ),
    ];
    // Every field with every wrong type.
    let wrong = |right: &str| {
        let all = [
            ("null", "null"),
            ("bool", "true"),
            ("number", "7"),
            ("string", "\"s\""),
            ("array", "[1]"),
            ("object", r#"{"k":1}"#),
        ];
        let right = right.to_owned();
        all.into_iter().filter(move |(kind, _)| *kind != right && *kind != "null").map(|(_, text)| text)
    };
    for (field, right) in [
        ("target", "object"),
        ("entry", "string"),
        ("args", "array"),
        ("labels", "none"),
        ("idempotency_key", "string"),
        ("stdin", "string"),
        ("argv", "none"),
        ("env", "none"),
    ] {
        for value in wrong(right) {
            cases.push(case(400, "invalid_field", field, with(&format!(r#""{field}":{value}"#))));
        }
    }
    cases
}

#[test]
fn each_is_refused_in_one_sentence_and_nothing_is_started() {
    let server = Server::start();
    let before = guest_processes(&server);
    let mut wrong = Vec::new();
    for Case { body, status, code, names } in cases() {
        let shown: String = String::from_utf8_lossy(&body).chars().take(160).collect();
        let response = server.exec_raw(body).send();
        let got = (response.status, response.problem());
        let detail = response.json()["detail"].as_str().unwrap_or_default().to_owned();
        if got != (status, code.to_owned()) || !detail.contains(names) {
            wrong.push(format!("{shown}\n   wanted {status} {code} naming {names:?}, got {got:?}: {detail}"));
        }
        assert!(detail.len() < 1000, "a sentence, not an echo: {} bytes for {shown}", detail.len());
        assert!(response.json().get("run_id").is_none(), "no run: {shown}");
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));

    // The proof's own processes may still have been ending when the count began.
    let new: Vec<_> =
        guest_processes(&server).into_iter().filter(|process| !before.contains(process)).collect();
    assert!(new.is_empty(), "something was started: {new:?}");
    let metrics = server.metrics();
    assert_eq!(metrics.sum("void_wasm_runs_total", &[]), 0.0);
    assert_eq!(metrics.sum("void_wasm_run_duration_ms_count", &[]), 0.0);
}

#[test]
fn a_body_over_one_mebibyte_is_refused() {
    let server = Server::start();
    let big = format!(r#"{{"target":{{"cid":"{CID}"}},"stdin":"{}"}}"#, "s".repeat(1 << 20));
    let response = server.exec_raw(big).send();
    assert_eq!((response.status, response.problem().as_str()), (413, "payload_too_large"));

    // Announced: refused before it is sent.
    let mut client = server.connect();
    client
        .send_raw(b"POST /v1/exec HTTP/1.1\r\nHost: test\r\nContent-Length: 999999999999\r\n\r\n{")
        .expect("a head can be sent");
    assert_eq!(client.read_response().expect("an answer").status, 413);

    // Not announced: refused when it is over.
    let mut client = server.connect();
    client
        .send_raw(b"POST /v1/exec HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("a head can be sent");
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..40 {
        if client.send_raw(&chunk).is_err() {
            break;
        }
    }
    assert_eq!(client.read_response().expect("an answer").status, 413);

    // Exactly as large as allowed is judged by what it says.
    let mut exact = format!(r#"{{"target":{{"cid":"{CID}"}},"nonsense":1}}"#);
    exact.push_str(&" ".repeat((1 << 20) - exact.len()));
    let response = server.exec_raw(exact).send();
    assert_eq!((response.status, response.problem().as_str()), (400, "unknown_field"));
}

#[test]
fn a_key_in_header_and_body_must_be_the_same() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let body =
        format!(r#"{{"target":{{"cid":"{cid}"}},"entry":"add","args":[1,2],"idempotency_key":"one"}}"#);
    let response = server.exec_raw(body.clone()).header("Idempotency-Key", "two").send();
    assert_eq!((response.status, response.problem().as_str()), (400, "idempotency_conflict"));
    assert_eq!(server.exec_raw(body).header("Idempotency-Key", "one").send().status, 202);
}

#[test]
fn a_key_makes_exactly_one_run() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let body = |last: u32| {
        format!(r#"{{"target":{{"cid":"{cid}"}},"entry":"add","args":[1,{last}],"idempotency_key":"k"}}"#)
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let (server, body) = (&server, &body);
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(move || server.exec_raw(body(2)).send())).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let first = answers[0].json()["run_id"].clone();
    assert!(answers.iter().all(|answer| answer.json()["run_id"] == first), "one run for one key");
    assert_eq!(answers.iter().filter(|answer| answer.status == 202).count(), 1);
    let again: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert!(again.len() == 7 && again.iter().all(|answer| answer.json()["mode"] == "cached"));
    server.wait_for(first.as_str().expect("an id")).result();
    assert_eq!(server.metrics().sum("void_wasm_run_duration_ms_count", &[]), 1.0);

    let other = server.exec_raw(body(3)).send();
    assert_eq!((other.status, other.problem().as_str()), (422, "idempotency_mismatch"));
}

#[test]
fn a_module_that_nobody_has_ends_the_run() {
    let server = Server::start();
    let run = server.exec_raw(with(r#""entry":"add","args":[1,2]"#)).wait();
    run.failed_with("module_not_found");
}

#[test]
fn arguments_that_do_not_fit_are_held_against_the_types() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    let declared = |args: &str| {
        let body = format!(r#"{{"target":{{"cid":"{cid}"}},"entry":"add(i32,i32)->i32","args":{args}}}"#);
        let answer = server.exec_raw(body).send();
        assert_eq!((answer.status, answer.problem().as_str()), (422, "invalid_args"));
        answer.json()["detail"].as_str().expect("a sentence").to_owned()
    };
    let told = "entry add(i32,i32)->i32 takes 2 arguments, args has 1";
    assert!(declared("[1]").starts_with(told), "{}", declared("[1]"));
    assert!(
        declared(r#"[1,"x"]"#).starts_with("args[1] of entry add(i32,i32)->i32: "),
        "{}",
        declared(r#"[1,"x"]"#)
    );
    // Not declared: only the module tells, and the sentence is the same.
    let run = server.run(&cid, "add", serde_json::json!([1]));
    assert_eq!(run.reason(), "entry_type_mismatch");
    assert!(run.error().starts_with(told), "{}", run.error());
}
