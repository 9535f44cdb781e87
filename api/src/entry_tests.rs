//! Entries: where a name ends and a signature begins.

use super::*;
use ValType::{F32, F64, I32, I64, V128};
use proptest::prelude::*;

fn entry(name: &str, signature: Option<(&[ValType], Option<&[ValType]>)>) -> Entry {
    let signature = signature
        .map(|(params, results)| Signature { params: params.to_vec(), results: results.map(<[_]>::to_vec) });
    Entry { name: name.into(), signature }
}

#[test]
fn signatures() {
    for (text, expected, canonical) in [
        ("add(i32,i32)->i32", entry("add", Some((&[I32, I32], Some(&[I32])))), "add(i32,i32)->i32"),
        (" add ( i32 , i32 ) -> i32 ", entry("add", Some((&[I32, I32], Some(&[I32])))), "add(i32,i32)->i32"),
        ("add(i32,i32) -> (i32)", entry("add", Some((&[I32, I32], Some(&[I32])))), "add(i32,i32)->i32"),
        ("two()->(i64, f32)", entry("two", Some((&[], Some(&[I64, F32])))), "two()->(i64,f32)"),
        ("none()->()", entry("none", Some((&[], Some(&[])))), "none()->()"),
        ("any( v128 )", entry("any", Some((&[V128], None))), "any(v128)"),
        ("any()", entry("any", Some((&[], None))), "any()"),
        ("my func(f64)", entry("my func", Some((&[F64], None))), "my func(f64)"),
        ("a->b(i32)->i64", entry("a->b", Some((&[I32], Some(&[I64])))), "a->b(i32)->i64"),
        ("f(int)(i32)", entry("f(int)", Some((&[I32], None))), "\"f(int)\"(i32)"),
        (
            "operator->()(i32)->i32",
            entry("operator->()", Some((&[I32], Some(&[I32])))),
            "\"operator->()\"(i32)->i32",
        ),
        ("\"a(i32\" (i32) -> i32", entry("a(i32", Some((&[I32], Some(&[I32])))), "\"a(i32\"(i32)->i32"),
    ] {
        let parsed: Entry = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(parsed, expected, "{text}");
        assert_eq!(parsed.to_string(), canonical, "{text}");
    }
}

#[test]
fn names_of_every_kind() {
    for name in [
        "_start",
        "add",
        "wasi:cli/run@0.2.0#run",
        "[method]a.b",
        "a->b",
        "a->i32",
        "my func",
        "größe",
        "odd(name)",
        "f(int, char*)",
        "a(b",
        "a)b",
        "x(,)",
        ")",
        "a\"b",
    ] {
        assert_eq!(name.parse(), Ok(entry(name, None)), "{name}");
    }
    for (text, name) in [
        ("\"\"", ""),
        ("\"add(i32)\"", "add(i32)"),
        ("\" a \"", " a "),
        ("\"a\\nb\"", "a\nb"),
        ("\"unclosed", "\"unclosed"),
    ] {
        assert_eq!(text.parse(), Ok(entry(name, None)), "{text}");
    }
}

#[test]
fn attempts_that_fail_are_refused() {
    for bad in [
        "add(i33)->i32",
        "add(i33)",
        "add(i32",
        "add(i32,",
        "add(",
        "add(i32)->",
        "add(i32)->i33",
        "add(i32,)",
        "add(i32)->(i32",
        "add(i32)->i32,i32",
        "add i32)->i32",
        "add(i32 i32)",
        "(i32)->i32",
        "()",
        "add(string)->i32",
        "add(externref)",
        "add(funcref)->i32",
        "add(i32))->i32",
        "\"a\" b",
        "\"a\"(i33)",
        "\"a\"b(i32)",
        "",
        "  ",
    ] {
        let error = bad.parse::<Entry>().expect_err(bad);
        assert!(error.to_string().len() < 300, "{error}");
    }
    assert_eq!("x".repeat(1025).parse::<Entry>(), Err(EntryError::TooLong));
    let many = format!("f({})", vec!["i32"; 65].join(","));
    assert!(matches!(many.parse::<Entry>(), Err(EntryError::TooManyTypes(_))));
    assert!("add(externref)".parse::<Entry>().unwrap_err().to_string().contains("reference type"));
}

#[test]
fn check_shows_both_types() {
    let add: Entry = "add(i32,i32)->i32".parse().unwrap();
    let vals = |types: &[ValType]| types.iter().map(|ty| TypeName::from(*ty)).collect::<Vec<_>>();
    assert_eq!(add.check(&vals(&[I32, I32]), &vals(&[I32])), Ok(()));
    let message = add.check(&vals(&[I64, I64]), &vals(&[I64])).unwrap_err().to_string();
    assert!(message.contains("(i32, i32) -> (i32)") && message.contains("(i64, i64) -> (i64)"), "{message}");
    let params_only: Entry = "add(i32,i32)".parse().unwrap();
    assert_eq!(params_only.check(&vals(&[I32, I32]), &vals(&[F64])), Ok(()));
    let bare: Entry = "add".parse().unwrap();
    let refused = bare.check(&["externref".into()], &[]).unwrap_err();
    assert!(matches!(refused, Mismatch::Unsupported { .. }), "{refused}");
}

fn types_of(max: usize) -> impl Strategy<Value = Vec<ValType>> {
    prop::collection::vec(prop::sample::select(ValType::ALL), 0..max)
}

proptest! {
    #[test]
    fn printed_entries_read_back(
        name in prop_oneof!["[a-z()>\" -]{0,12}", ".{0,40}", "[a-z]{1,4}\\((i32|i33|x)?\\)?(->)?"],
        params in types_of(6),
        results in prop::option::of(types_of(6)),
        signed: bool,
    ) {
        let signature = signed.then_some(Signature { params, results });
        let entry = Entry { name, signature };
        prop_assert_eq!(entry.to_string().parse::<Entry>(), Ok(entry));
    }

    #[test]
    fn what_was_read_prints_to_what_reads_the_same(text in "[a-z0-9(),> \"-]{0,24}|.*") {
        if let Ok(entry) = text.parse::<Entry>() {
            prop_assert_eq!(entry.to_string().parse::<Entry>(), Ok(entry));
        }
    }
}
