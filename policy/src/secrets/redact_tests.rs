//! Secrets in any mix of forms are found, and nothing else is touched.

use proptest::prelude::*;

use super::super::forms;
use super::super::search::STEPS;
use super::*;

fn of(secret: &str) -> Redactor {
    let mut redactor = Redactor::default();
    redactor.add("authorization", secret);
    redactor
}

fn cleaned(secret: &str, text: &str) -> String {
    String::from_utf8(of(secret).clean(text.as_bytes().to_vec())).unwrap()
}

#[test]
fn a_secret_is_found_in_the_forms_that_echoes_have() {
    let secret = "Bearer a/b\"c&d+e\\f";
    for (echo, clean) in [
        ("x Bearer a/b\"c&d+e\\f y", "x *** y"),
        ("x BEARER A/B\"C&D+E\\F y", "x *** y"),
        ("only a/b\"c&d+e\\f here", "only *** here"),
        (r#"{"h":"Bearer a/b\"c&d+e\\f"}"#, r#"{"h":"***"}"#),
        (r#"{"h":"Bearer a\/b\"c&d+e\\f"}"#, r#"{"h":"***"}"#),
        (r#"{"h":"Bearer a\/b\u0022c\u0026d\u002be\u005cf"}"#, r#"{"h":"***"}"#),
        (r#"{"h":"{\"h\":\"Bearer a/b\\\"c&d+e\\\\f\"}"}"#, r#"{"h":"{\"h\":\"***\"}"}"#),
        ("h=Bearer%20a%2Fb%22c%26d%2Be%5Cf&", "h=***&"),
        ("h=Bearer+a%2Fb%22c%26d%2Be%5Cf&", "h=***&"),
        ("h=Bearer+a/b%22c%26d+e%5cf&", "h=***&"),
        ("h=Bearer%2520a%252Fb%2522c%2526d%252Be%255Cf&", "h=***&"),
        ("h=%42%65%61%72%65%72%20%61%2f%62%22%63%26%64%2B%65%5c%66&", "h=***&"),
        ("<b>Bearer a/b&quot;c&amp;d+e\\f</b>", "<b>***</b>"),
        ("<b>Bearer a&#x2F;b&#34;c&#38;d&#43;e&#092;f</b>", "<b>***</b>"),
        ("<b>Bearer a&sol;b&amp;quot;c&amp;amp;d&plus;e&bsol;f</b>", "<b>***</b>"),
        // One within the other.
        (
            r#"{"h":"\u003cb\u003eBearer a/b\u0026#34;c\u0026amp;d\u0026#43;e\\f"}"#,
            r#"{"h":"\u003cb\u003e***"}"#,
        ),
        ("<p h='{\"h\":\"Bearer a/b\\&quot;c&amp;d+e\\\\f\"}'>", "<p h='{\"h\":\"***\"}'>"),
        ("h=Bearer%20a%2Fb%26%2334%3Bc%26amp%3Bd%26%2343%3Be%5Cf&", "h=***&"),
        ("Bearer&#43;a&#37;2Fb&#37;22c&#37;26d&#37;2Be&#37;5Cf.", "***."),
        (r"Bearer\040a\057b\042c\046d\053e\134f.", "***."),
        ("nothing", "nothing"),
        ("Bearer", "Bearer"),
        ("Bearer a/b", "Bearer a/b"),
    ] {
        assert_eq!(cleaned(secret, echo), clean, "{echo}");
        assert_eq!(of(secret).finds(echo.as_bytes()), echo != clean, "{echo}");
    }
    assert_eq!(cleaned("ab", "xabab"), "x****");
    assert_eq!(cleaned("a&", "xa&amp;y"), "x***y", "a form is taken whole");
    assert_eq!(cleaned("abab", "xabababy abaab"), "x***y abaab", "what overlaps is one");
    assert_eq!(cleaned("Basic short", "short"), "short", "too short a part is not looked for");
    assert_eq!(format!("{:?}", of("s3cret")), "Redactor(1 secrets)");
}

#[test]
fn each_value_of_a_cookie_is_a_secret_by_itself() {
    let mut redactor = Redactor::default();
    redactor.add("cookie", "sid=0123456789; theme=dark; t=\"abcdefgh==\"");
    for (echo, clean) in [
        ("id 0123456789.", "id ***."),
        ("id abcdefgh%3D%3d.", "id ***."),
        ("dark theme", "dark theme"),
        ("sid=0123456789; theme=dark; t=\"abcdefgh==\"!", "***!"),
        (r#"{"c":"sid=0123456789; theme=dark; t=\"abcdefgh==\""}"#, r#"{"c":"***"}"#),
    ] {
        assert_eq!(redactor.clean(echo.into()), clean.as_bytes(), "{echo}");
    }
}

#[test]
fn of_two_secrets_no_piece_is_left() {
    let mut redactor = Redactor::default();
    for secret in ["abcdefgh", "xxabcdefghyy", "ghijklmn", "abcdefghi"] {
        redactor.add("x-key", secret);
    }
    for (text, clean) in [
        ("-xxabcdefghyy-", "-***-"),
        ("-xxabcdefghy-", "-xx***y-"),
        ("-abcdefghijklmn-", "-***-"),
        ("-abcdefghi-abcdefgh-", "-***-***-"),
    ] {
        assert_eq!(redactor.clean(text.into()), clean.as_bytes(), "{text}");
    }
}

/// Without its `;` a number ends where its digits end, and not where another secret does.
#[test]
fn a_form_is_read_past_the_end_of_another_secret() {
    let mut redactor = Redactor::default();
    redactor.add("x-key", "x+");
    redactor.add("x-other", "&#43");
    for (text, clean) in [("-x&#431-", "-x***1-"), ("-x&#43-", "-***-"), ("-x&#43;-", "-***-")] {
        assert_eq!(redactor.clean(text.into()), clean.as_bytes(), "{text}");
    }
}

/// What a hostile host can make a search cost: each place is looked at three times, and once more where a stretch ends.
#[test]
fn no_text_costs_more_than_its_length() {
    let periodic = "a".repeat(300);
    let almost = format!("{}b", "ab".repeat(100));
    for secret in [periodic.as_str(), &almost, "%%%%%%%%", "\\\\\\\\\\\\\\\\", "&amp;&amp;&amp;"] {
        let redactor = of(secret);
        for piece in [
            "a",
            "ab",
            "aab",
            "%61",
            "%25",
            "%",
            "\\",
            "\\u0061",
            "&amp;",
            "&",
            "&#0",
            "%5C",
            "%26%2338%3B",
            "\\u0026#92;",
            secret,
            &secret[1..],
        ] {
            let text = piece.repeat(40_000 / piece.len()).into_bytes();
            let length = text.len();
            STEPS.set(0);
            let clean = redactor.clean(text);
            let steps = STEPS.get();
            assert!(steps <= 4 * (length + 32), "{secret} {piece}: {steps} steps for {length} bytes");
            assert!(clean.len() <= length && !redactor.finds(&clean), "{secret} {piece}");
        }
    }
}

/// Where a secret begins and ends, by trying every form at every place.
fn tried(secret: &[u8], text: &[u8]) -> Vec<(usize, usize)> {
    fn ends(secret: &[u8], text: &[u8], at: usize, out: &mut Vec<usize>) {
        let Some((first, rest)) = secret.split_first() else { return out.push(at) };
        let mut next = Vec::new();
        forms::at(&text[at..], |byte, length| {
            if byte == *first {
                next.push(at + length);
            }
        });
        next.into_iter().for_each(|at| ends(rest, text, at, out));
    }
    let mut all = Vec::new();
    for start in 0..text.len() {
        let mut found = Vec::new();
        ends(secret, text, start, &mut found);
        all.extend(found.into_iter().map(|end| (start, end)));
    }
    all
}

/// One character in one of its forms.
fn written(byte: u8, how: usize) -> String {
    let raw = char::from(byte);
    match how {
        0 if byte == b' ' => "+".into(),
        1 => format!("%{byte:02x}"),
        2 => format!("%{byte:02X}"),
        3 => format!("%25{byte:02X}"),
        4 => format!("\\u{byte:04x}"),
        5 => format!("\\u{byte:04X}"),
        6 => format!("&#{byte};"),
        7 => format!("&#x{byte:04X};"),
        8 => format!("&#{byte:05};"),
        9 if raw.is_ascii_punctuation() => format!("\\{raw}"),
        10 => match byte {
            b'&' => "&amp;".into(),
            b'<' => "&lt;".into(),
            b'>' => "&gt;".into(),
            b'"' => "&quot;".into(),
            b'\'' => "&apos;".into(),
            _ => raw.into(),
        },
        11 => raw.to_ascii_uppercase().into(),
        12 => format!("\\{byte:03o}"),
        13 => format!("\\x{byte:02x}"),
        _ => raw.into(),
    }
}

/// One character in one of its forms, put into percent-encoding, JSON or HTML by writers that escape all that is no letter
/// or digit.
fn nested(byte: u8, how: usize, layers: &[usize]) -> String {
    let mut text = written(byte, how);
    for layer in layers {
        let next: String =
            text.bytes()
                .map(|byte| {
                    if byte.is_ascii_alphanumeric() { char::from(byte).into() } else { written(byte, *layer) }
                })
                .collect();
        if next.len() >= forms::FORM_MAX_BYTES {
            break;
        }
        text = next;
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_mix_of_forms_is_found_and_what_stands_around_it_is_left(
        // No bar: it holds what stands around apart from the secret.
        secret in "[!-{}~][ -{}~]{0,90}[!-{}~]",
        how in prop::collection::vec((0usize..18, prop::collection::vec(prop::sample::select(vec![1usize, 2, 4, 5, 6, 7, 8]), 0..3)), 92),
        before in "[ -~\n\u{e4}]{0,40}",
        after in "[ -~\n\u{e4}]{0,40}",
    ) {
        let redactor = of(&secret);
        prop_assume!(!redactor.finds(before.as_bytes()) && !redactor.finds(after.as_bytes()));
        let echo: String = secret.bytes().zip(how).map(|(byte, (how, layers))| nested(byte, how, &layers)).collect();
        let text = format!("{before}|{echo}|{after}");
        prop_assert!(redactor.finds(text.as_bytes()), "{}", text);
        // As many stars as the form has bytes, and three at most.
        let stars = "*".repeat(echo.len().min(3));
        prop_assert_eq!(cleaned(&secret, &text), format!("{before}|{stars}|{after}"));
    }

    #[test]
    fn a_text_without_it_is_left_as_it_is(secret in "[ -~]{8,40}", text in "[ -~]{0,200}") {
        let redactor = of(&secret);
        prop_assume!(!redactor.finds(text.as_bytes()));
        prop_assert_eq!(redactor.clean(text.clone().into_bytes()), text.into_bytes());
    }

    #[test]
    fn all_that_trying_finds_is_covered_and_no_more_begins_or_ends(
        secrets in prop::collection::vec("[ab%6]{1,5}", 1..4),
        text in "(a|b|%|6|;|%61|%62|%2561|\\\\|\\\\u0061|\\\\14|&#37;|&#9|&amp;|\\\\u0026#97|%26%2398|%3B|%36){0,24}",
    ) {
        let mut needles = Needles::default();
        secrets.iter().for_each(|secret| needles.add(secret));
        let text = text.as_bytes();
        let all: Vec<_> = secrets.iter().flat_map(|secret| tried(secret.as_bytes(), text)).collect();
        let mut search = needles.search();
        let found: Vec<_> = std::iter::from_fn(|| search.next(text)).flatten().collect();
        prop_assert_eq!(needles.find(text), !all.is_empty());
        for (start, end) in &all {
            prop_assert!(found.iter().any(|one| one.start <= *start && *end <= one.end), "{start}..{end} {found:?}");
        }
        for one in &found {
            prop_assert!(all.iter().any(|(start, _)| *start == one.start), "{one:?} {all:?}");
            prop_assert!(all.iter().any(|(_, end)| *end == one.end), "{one:?} {all:?}");
        }
        prop_assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }

    #[test]
    fn any_text_is_cleaned_without_panic_and_never_grows(secret: String, text: Vec<u8>) {
        let length = text.len();
        prop_assert!(of(&secret).clean(text).len() <= length);
    }
}
