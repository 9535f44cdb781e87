//! Typed entries, and every value that goes in and comes out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use serde_json::{Value, json};
use void_tests::{Run, Server};

/// Runs `entry` with arguments written as they are, so that no digit is lost on the way.
fn run_raw(server: &Server, cid: &str, entry: &str, args: &str) -> Run {
    server.exec_raw(format!(r#"{{"target":{{"cid":"{cid}"}},"entry":"{entry}","args":{args}}}"#)).wait()
}

/// Equal as the numbers that a JSON reader would make of them, to the last bit and sign.
fn same_number(got: &str, wanted: &str) -> bool {
    match (got.parse::<f64>(), wanted.parse::<f64>()) {
        (Ok(got), Ok(wanted)) => got.to_bits() == wanted.to_bits(),
        _ => got == wanted,
    }
}

#[test]
fn every_value_comes_back_unchanged() {
    let server = Server::start();
    let cid = server.upload_guest("identity");
    let cases = [
        ("i32", "0", "0"),
        ("i32", "-1", "-1"),
        ("i32", "2147483647", "2147483647"),
        ("i32", "-2147483648", "-2147483648"),
        ("i64", "5", r#""5""#),
        ("i64", r#""5""#, r#""5""#),
        ("i64", "9007199254740993", r#""9007199254740993""#),
        ("i64", "9223372036854775807", r#""9223372036854775807""#),
        ("i64", "-9223372036854775808", r#""-9223372036854775808""#),
        ("i64", r#""-9223372036854775808""#, r#""-9223372036854775808""#),
        ("f32", "3.14", "3.14"),
        ("f32", "0.1", "0.1"),
        ("f32", "-0.0", "-0.0"),
        ("f32", "2", "2"),
        ("f32", "16777217", "16777216"),
        ("f32", "3.4028235e38", "3.4028235e38"),
        ("f32", "1e-45", "1e-45"),
        ("f32", r#""NaN""#, r#""NaN""#),
        ("f32", r#""Infinity""#, r#""Infinity""#),
        ("f32", r#""-Infinity""#, r#""-Infinity""#),
        ("f64", "0.1", "0.1"),
        ("f64", "3.141592653589793", "3.141592653589793"),
        ("f64", "-0.0", "-0.0"),
        ("f64", "7", "7"),
        ("f64", "1.7976931348623157e308", "1.7976931348623157e308"),
        ("f64", "5e-324", "5e-324"),
        ("f64", "2.2250738585072011e-308", "2.2250738585072011e-308"),
        ("f64", r#""NaN""#, r#""NaN""#),
        ("f64", r#""Infinity""#, r#""Infinity""#),
        ("f64", r#""-Infinity""#, r#""-Infinity""#),
        ("v128", r#""0x000102030405060708090a0b0c0d0e0f""#, r#""0x000102030405060708090a0b0c0d0e0f""#),
        ("v128", r#""0xffffffffffffffffffffffffffffffff""#, r#""0xffffffffffffffffffffffffffffffff""#),
    ];
    for (ty, arg, wanted) in cases {
        for entry in [ty.to_owned(), format!("{ty}({ty})->{ty}")] {
            let run = run_raw(&server, &cid, &entry, &format!("[{arg}]"));
            let got = run.result_text();
            assert!(same_number(got, wanted), "{entry} of {arg}: got {got}, wanted {wanted}");
        }
    }
}

#[test]
fn the_bits_are_the_bits_of_the_format() {
    let server = Server::start();
    let cid = server.upload_guest("identity");
    // Rounded once, to the nearest: not through a wider format first.
    assert_eq!(run_raw(&server, &cid, "f32_bits", "[0.1]").result(), &json!(0x3dcc_cccd));
    assert_eq!(
        run_raw(&server, &cid, "f32_bits", "[1.00000017881393432617187499]").result(),
        &json!(0x3f80_0001)
    );
    assert_eq!(run_raw(&server, &cid, "f32_bits", "[-0.0]").result(), &json!(i32::MIN));
    assert_eq!(run_raw(&server, &cid, "f64_bits", "[0.1]").result(), &json!(0.1_f64.to_bits().to_string()));
    // The last hex digit is the lowest bit of lane 0.
    let low = r#"["0x00000000000000000000000000000001"]"#;
    assert_eq!(run_raw(&server, &cid, "lane0", low).result(), &json!(1));
}

#[test]
fn nothing_is_wrapped_or_coerced() {
    let server = Server::start();
    let cid = server.upload_guest("identity");
    let cases = [
        ("i32", "2147483648"),
        ("i32", "-2147483649"),
        ("i32", "1.5"),
        ("i32", "2.0"),
        ("i32", "1e3"),
        ("i32", r#""1""#),
        ("i32", "true"),
        ("i32", "null"),
        ("i32", "[1]"),
        ("i32", r#"{"i32":1}"#),
        ("i64", "9223372036854775808"),
        ("i64", r#""9223372036854775808""#),
        ("i64", r#""-9223372036854775809""#),
        ("i64", "1.0"),
        ("i64", r#""1.0""#),
        ("i64", r#""""#),
        ("i64", r#""0x10""#),
        ("i64", r#"" 1""#),
        ("i64", "false"),
        ("f32", "1e39"),
        ("f32", "3.5e38"),
        ("f32", r#""1.5""#),
        ("f32", r#""nan""#),
        ("f32", r#""inf""#),
        ("f32", "null"),
        ("f64", "1e309"),
        ("f64", r#""0.5""#),
        ("f64", r#""-NaN""#),
        ("f64", "true"),
        ("v128", "1"),
        ("v128", r#""000102030405060708090a0b0c0d0e0f""#),
        ("v128", r#""0x000102030405060708090a0b0c0d0e0""#),
        ("v128", r#""0x000102030405060708090a0b0c0d0e0f0""#),
        ("v128", r#""0x000102030405060708090a0b0c0d0e0g""#),
    ];
    for (ty, arg) in cases {
        // Declared: refused before the module is looked at.
        let body = format!(r#"{{"target":{{"cid":"{cid}"}},"entry":"{ty}({ty})->{ty}","args":[{arg}]}}"#);
        let response = server.exec_raw(body).send();
        assert_eq!(response.status, 422, "{ty} of {arg}: {}", response.text());
        assert_eq!(response.problem(), "invalid_args", "{ty} of {arg}");
        // Not declared: what no type takes is refused all the same, of the rest only the module tells.
        let body = format!(r#"{{"target":{{"cid":"{cid}"}},"entry":"{ty}","args":[{arg}]}}"#);
        if !arg.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit()) {
            let response = server.exec_raw(body).send();
            assert_eq!(
                (response.status, response.problem().as_str()),
                (422, "invalid_args"),
                "{ty} of {arg}"
            );
        } else {
            server.exec_raw(body).wait().failed_with("entry_type_mismatch");
        }
    }
}

#[test]
fn no_result_is_null_and_several_are_an_array() {
    let server = Server::start();
    let cid = server.upload_guest("multi_value");
    assert_eq!(server.run(&cid, "none", json!([])).result(), &Value::Null);
    assert_eq!(server.run(&cid, "none()->()", json!([])).result(), &Value::Null);
    assert_eq!(server.run(&cid, "swap", json!([7, "-8"])).result(), &json!(["-8", 7]));
    assert_eq!(server.run(&cid, "swap(i32,i64)->(i64,i32)", json!([7, -8])).result(), &json!(["-8", 7]));
    let five = json!([-1, "-9223372036854775808", 0.5, "NaN", "0x00000000000000000000000000000001"]);
    assert_eq!(server.run(&cid, "five", json!([])).result(), &five);
}

#[test]
fn an_entry_may_be_written_with_or_without_its_types() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    for entry in [
        "add",
        "add(i32,i32)->i32",
        "add(i32,i32)->(i32)",
        "add(i32,i32)",
        "add(i32, i32) -> i32",
        "add ( i32 , i32 ) -> ( i32 )",
    ] {
        assert_eq!(server.run(&cid, entry, json!([2, 3])).result(), &json!(5), "{entry}");
    }
}

#[test]
fn declared_types_that_differ_end_the_run_and_both_are_shown() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    for (entry, args, declared) in [
        ("add(i64,i64)->i64", json!([2, 3]), "i64"),
        ("add(f32,i32)->i32", json!([2, 3]), "f32"),
        ("add(i32)->i32", json!([2]), "(i32)"),
        ("add(i32,i32)->()", json!([2, 3]), "()"),
        ("add(i32,i32)->f64", json!([2, 3]), "f64"),
        ("add(i32,i32)->(i32,i32)", json!([2, 3]), "(i32, i32)"),
    ] {
        let run = server.run(&cid, entry, args);
        let error = run.failed_with("entry_type_mismatch");
        let squeezed = |text: &str| text.replace(' ', "");
        assert!(squeezed(error).contains(&squeezed(declared)), "{entry}: the declared type: {error}");
        assert!(squeezed(error).contains("(i32,i32)"), "{entry}: the actual type: {error}");
    }
}

#[test]
fn a_wrong_number_of_arguments_is_refused() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    for args in [json!([]), json!([2]), json!([2, 3, 4])] {
        let request = json!({"target": {"cid": cid}, "entry": "add(i32,i32)->i32", "args": args});
        let response = server.exec(request).send();
        assert_eq!((response.status, response.problem().as_str()), (422, "invalid_args"), "{args}");
        server.run(&cid, "add", args).failed_with("entry_type_mismatch");
    }
}

#[test]
fn an_entry_that_is_not_there_is_named() {
    let server = Server::start();
    let cid = server.upload_guest("names");
    for entry in ["nowhere", "memory", "two", "Two words"] {
        let run = server.run(&cid, entry, json!([]));
        assert!(run.failed_with("entry_not_found").contains(entry), "{entry}: {}", run.error());
    }
}

#[test]
fn a_name_may_be_any_export_name() {
    let server = Server::start();
    let cid = server.upload_guest("names");
    for (entry, wanted) in [
        // A name that could be taken for something else stands in quotes.
        (r#""""#, 1),
        ("two words", 2),
        ("two words()->i32", 2),
        ("snow \u{2603}", 3),
        ("wasi:cli/run@0.2.0#run", 4),
        ("a(b", 5),
        ("a->b", 6),
        ("\"a(b\" ( ) -> i32", 5),
        (r#""\"quoted\"\n""#, 7),
    ] {
        assert_eq!(server.run(&cid, entry, json!([])).result(), &json!(wanted), "{entry:?}");
    }
}

#[test]
fn a_command_needs_no_entry() {
    let server = Server::start();
    let cid = server.upload_guest("start_export");
    let run = server.exec(json!({"target": {"cid": cid}})).wait();
    assert_eq!(run.result(), &Value::Null);
    assert_eq!(run.record()["entry"], "_start");
}

#[test]
fn a_reference_is_refused() {
    let server = Server::start();
    let cid = server.upload_guest("references");
    server.run(&cid, "gives", json!([])).failed_with("entry_type_mismatch");
    server.run(&cid, "takes", json!([0])).failed_with("entry_type_mismatch");
    // Nor is there a value for one.
    let response = server.exec(json!({"target": {"cid": cid}, "entry": "takes", "args": [null]})).send();
    assert_eq!((response.status, response.problem().as_str()), (422, "invalid_args"));
    for entry in ["gives()->funcref", "takes(externref)", "takes(funcref)->()"] {
        let response = server.exec(json!({"target": {"cid": cid}, "entry": entry, "args": [null]})).send();
        assert_eq!((response.status, response.problem().as_str()), (422, "invalid_entry"), "{entry}");
    }
}

#[test]
fn each_run_gets_a_fresh_instance() {
    let server = Server::start();
    let cid = server.upload_guest("shared_state");
    for _ in 0..20 {
        assert_eq!(server.run(&cid, "count", json!([])).result(), &json!(2));
    }
}
