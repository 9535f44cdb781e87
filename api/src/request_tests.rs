//! Bodies, good and bad.

use proptest::prelude::*;

use super::*;

const CID: &str = "bafkreibhmtmv24yn2zu7udv53bwwvgrylzhbep2e52p72tly7wjiufzpom";

fn body(fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    format!("{{\"target\":{{\"cid\":\"{CID}\"}}{comma}{fields}}}")
}

fn parse(fields: &str) -> Result<ExecRequest, Problem> {
    ExecRequest::parse(body(fields).as_bytes())
}

#[test]
fn the_seed_documents_example() {
    let request =
        parse(r#""entry":"add(i32,i32)->i32","args":[2,3],"labels":{"repo":"void","branch":"main"}"#)
            .unwrap();
    assert_eq!(request.entry.to_string(), "add(i32,i32)->i32");
    assert_eq!(request.typed_args(&[ValType::I32; 2], None).unwrap(), [Value::I32(2), Value::I32(3)]);
    assert_eq!(request.labels.len(), 2);
}

#[test]
fn absent_fields_have_their_defaults() {
    let request = parse("").unwrap();
    assert_eq!(request.entry, Entry::default());
    assert!(request.args.is_empty() && request.argv.is_empty() && request.stdin.is_none());
}

#[test]
fn what_breaks_the_form_is_a_400_that_names_the_field() {
    use ProblemCode::{DuplicateField, InvalidField, UnknownField};
    for (fields, code, named) in [
        (r#""x":1"#, UnknownField, "x"),
        (r#""entry":5"#, InvalidField, "entry"),
        (r#""entry":null"#, InvalidField, "entry"),
        (r#""args":{}"#, InvalidField, "args"),
        (r#""labels":[]"#, InvalidField, "labels"),
        (r#""labels":{"a":1}"#, InvalidField, "labels.a"),
        (r#""labels":{"a":"1","a":"2"}"#, DuplicateField, "labels.a"),
        (r#""stdin":["x"]"#, InvalidField, "stdin"),
        (r#""stdin":"\ud800""#, InvalidField, "stdin"),
        (r#""labels":{"\ud800":"x"}"#, InvalidField, "labels"),
        (r#""argv":"x""#, InvalidField, "argv"),
        (r#""argv":["a",1]"#, InvalidField, "argv[1]"),
        (r#""env":{"A":true}"#, InvalidField, "env.A"),
        (r#""idempotency_key":7"#, InvalidField, "idempotency_key"),
        (r#""entry":"a","entry":"a""#, DuplicateField, "entry"),
        // A broken form is told before a broken rule.
        (r#""entry":"a(i33)","stdin":1"#, InvalidField, "stdin"),
    ] {
        let problem = parse(fields).expect_err(fields);
        assert_eq!((problem.status, problem.code), (400, code), "{fields}: {problem}");
        assert!(problem.detail.starts_with(named), "{fields}: {problem}");
    }
    let missing = ExecRequest::parse(b"{}").unwrap_err();
    assert_eq!((missing.status, missing.code), (400, ProblemCode::MissingField));
}

#[test]
fn what_is_not_a_json_object_is_a_400() {
    for bad in ["", "null", "[]", "5", "\"x\"", "{", "{]", "{\"target\":}", "{} {}", "{\"a\":1,}", "{'a':1}"]
    {
        let problem = ExecRequest::parse(bad.as_bytes()).expect_err(bad);
        assert_eq!((problem.status, problem.code), (400, ProblemCode::MalformedJson), "{bad}: {problem}");
    }
    assert_eq!(ExecRequest::parse(b"{\"entry\":\"\xff\"}").unwrap_err().status, 400);
}

#[test]
fn nesting_without_end_is_an_answer_and_no_overflow() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert_eq!(ExecRequest::parse(deep(500_000).as_bytes()).unwrap_err().status, 400);
    for field in ["args", "labels", "target", "x"] {
        let problem =
            ExecRequest::parse(format!("{{\"{field}\":{}}}", deep(500_000)).as_bytes()).unwrap_err();
        assert_eq!(problem.status, 400, "{field}: {problem}");
    }
    let problem = parse(&format!("\"args\":[{}]", deep(500_000))).unwrap_err();
    assert_eq!((problem.status, problem.code), (422, ProblemCode::InvalidArgs));
    let open = "{\"a\":".repeat(200_000);
    assert_eq!(ExecRequest::parse(open.as_bytes()).unwrap_err().status, 400);
}

#[test]
fn what_cannot_be_run_is_a_422() {
    use ProblemCode::{InvalidArgs, InvalidEntry, InvalidValue};
    let long = "x".repeat(257);
    for (fields, code) in [
        (r#""entry":"""#.to_owned(), InvalidEntry),
        (r#""entry":"add(i33)->i32""#.into(), InvalidEntry),
        (r#""entry":"add(externref)""#.into(), InvalidEntry),
        (r#""entry":"add(i32)","args":[]"#.into(), InvalidArgs),
        (r#""entry":"add(i32)","args":[1,2]"#.into(), InvalidArgs),
        (r#""entry":"add(i32)","args":[2147483648]"#.into(), InvalidArgs),
        (r#""entry":"add(i32)","args":["1"]"#.into(), InvalidArgs),
        (r#""entry":"add","args":[null]"#.into(), InvalidArgs),
        (r#""entry":"add","args":[true]"#.into(), InvalidArgs),
        (format!("\"args\":[{}1]", "1,".repeat(64)), InvalidArgs),
        (format!("\"labels\":{{\"a\":\"{long}\"}}"), InvalidValue),
        (format!("\"labels\":{{\"{long}\":\"a\"}}"), InvalidValue),
        (r#""labels":{"":"a"}"#.into(), InvalidValue),
        (format!("\"argv\":[{}\"\"]", "\"\",".repeat(256)), InvalidValue),
        (r#""argv":["a\u0000b"]"#.into(), InvalidValue),
        (format!("\"argv\":[\"{0}\"],\"env\":{{\"A\":\"{0}\"}}", "x".repeat(65_535)), InvalidValue),
        (r#""env":{"A=B":"x"}"#.into(), InvalidValue),
        (r#""env":{"":"x"}"#.into(), InvalidValue),
        (r#""env":{"A":"\u0000"}"#.into(), InvalidValue),
        (r#""idempotency_key":"""#.into(), InvalidValue),
        (format!("\"idempotency_key\":\"{}\"", "k".repeat(256)), InvalidValue),
        (r#""idempotency_key":"a\nb""#.into(), InvalidValue),
    ] {
        let problem = parse(&fields).expect_err(&fields);
        assert_eq!((problem.status, problem.code), (422, code), "{fields}: {problem}");
        assert!(problem.detail.len() < 300, "{problem}");
    }
    assert!(parse(&format!("\"idempotency_key\":\"{}\"", "ü".repeat(255))).is_ok());
}

#[test]
fn unknown_names_are_repeated_bounded_and_escaped() {
    let problem = parse(&format!("\"\\u001b{}\":1", "x".repeat(5_000))).unwrap_err();
    assert!(problem.detail.len() < 300 && problem.detail.starts_with("\\u{1b}x"), "{problem}");
}

#[test]
fn one_key_from_header_or_body() {
    let body = |key: &str| Some(key.to_owned());
    assert_eq!(one_idempotency_key(None, None), Ok(None));
    assert_eq!(one_idempotency_key(Some("a"), None), Ok(body("a")));
    assert_eq!(one_idempotency_key(None, body("b")), Ok(body("b")));
    assert_eq!(one_idempotency_key(Some("a"), body("a")), Ok(body("a")));
    let conflict = one_idempotency_key(Some("a"), body("b")).unwrap_err();
    assert_eq!((conflict.status, conflict.code), (400, ProblemCode::IdempotencyConflict));
    assert_eq!(one_idempotency_key(Some(""), None).unwrap_err().status, 400);
}

#[test]
fn the_fingerprint_tells_requests_apart_and_ignores_the_key() {
    let print = |fields: &str| parse(fields).unwrap().fingerprint();
    let base = print(r#""entry":"f","args":[1,2]"#);
    assert_eq!(base, print(r#""args": [1, 2] , "idempotency_key":"k", "entry":" f ""#));
    for other in [
        r#""entry":"f","args":[12]"#,
        r#""entry":"f","args":[1,"2"]"#,
        r#""entry":"f","args":[1,2],"stdin":"""#,
        r#""entry":"f","args":[1,2],"labels":{"a":"b"}"#,
        r#""entry":"f","args":[1,2],"env":{"a":"b"}"#,
        r#""entry":"f","args":[1,2],"argv":["a","b"]"#,
    ] {
        assert_ne!(base, print(other), "{other}");
    }
    assert_ne!(print(r#""labels":{"a":"b"}"#), print(r#""env":{"a":"b"}"#));
    // Kept by the store across restarts and versions: this value must not change.
    let pinned = "77ce57536c4ed00d74088b80b60b5e07f08201468594135354911b9dcc9d614f";
    assert_eq!(hex::encode(print("")), pinned);
}

#[test]
fn printed_requests_read_back() {
    let fields = r#""entry":"f(i64)->()","args":["9"],"labels":{"a":"b"},"idempotency_key":"k","stdin":"x\n","argv":["p"],"env":{"A":"1"}"#;
    let request = parse(fields).unwrap();
    let again = ExecRequest::parse(&request.to_json()).unwrap();
    assert_eq!(again.to_json(), request.to_json());
    assert_eq!(again.fingerprint(), request.fingerprint());
}

#[test]
fn a_body_over_the_limit_is_a_413() {
    assert_eq!(ExecRequest::parse(&vec![b' '; BODY_MAX_BYTES + 1]).unwrap_err().status, 413);
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_panic(bytes: Vec<u8>) {
        let _ = ExecRequest::parse(&bytes);
    }

    #[test]
    fn any_value_in_any_field_is_judged_without_panic(
        field in prop::sample::select(FIELDS.split(", ").collect::<Vec<_>>()),
        value in r#"("[a-z(),>\\-]{0,12}"|[0-9.eE-]{1,6}|null|true|\[[0-9,"a]{0,9}\]|\{"[a-z]":"?[a-z0-9]"?\}|.{0,12})"#,
    ) {
        if let Err(problem) = parse(&format!("\"{field}\":{value}")) {
            prop_assert!(problem.status == 400 || problem.status == 422);
        }
    }
}
