//! Blanks what is not code in Rust source text, and keeps every line where it is.

/// The text with comments, strings and character literals as spaces. Lines stay as they are.
pub(crate) fn blank_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at, out.last().copied());
        if end > at {
            out.extend(bytes[at..end].iter().map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment or literal that begins at `at` ends; `at` itself where none begins.
fn literal_end(bytes: &[u8], at: usize, before: Option<u8>) -> usize {
    let rest = &bytes[at..];
    let inside_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return at + block_comment(rest);
    }
    match rest[0] {
        b'"' => at + quoted(rest, b'"'),
        b'\'' => at + character(rest),
        b'r' | b'b' | b'c' if !inside_word => {
            let prefix = rest.iter().take_while(|&&byte| matches!(byte, b'r' | b'b' | b'c')).count();
            let hashes = rest[prefix..].iter().take_while(|&&byte| byte == b'#').count();
            match rest.get(prefix + hashes) {
                Some(b'"') if rest[..prefix].contains(&b'r') => at + raw(rest, prefix + hashes + 1, hashes),
                Some(b'"') if hashes == 0 => at + prefix + quoted(&rest[prefix..], b'"'),
                _ => at,
            }
        }
        _ => at,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw(rest: &[u8], from: usize, hashes: usize) -> usize {
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    rest[from..]
        .windows(close.len())
        .position(|window| window == close)
        .map_or(rest.len(), |at| from + at + close.len())
}

/// A character literal has its closing quote after one character or an escape; a lifetime has none.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return quoted(rest, b'\'');
    }
    let width = rest.get(1).map_or(0, |&byte| if byte < 0x80 { 1 } else { byte.leading_ones() as usize });
    if width > 0 && rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
}

/// The code without its test modules: from `#[cfg(test)]` at the margin to the closing brace at the margin.
pub(crate) fn blank_test_modules(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut inside = false;
    for line in code.lines() {
        inside |= line.starts_with("#[cfg(test)]");
        if !inside {
            out.push_str(line);
        }
        out.push('\n');
        inside &= !(line.starts_with('}') || line.starts_with("mod ") && line.ends_with(';'));
    }
    out
}

/// The lines, counted from 1, on which a word stands; twice where it stands twice.
pub(crate) fn words(code: &str, word: &str) -> Vec<usize> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut lines = Vec::new();
    for (index, line) in code.lines().enumerate() {
        for (at, _) in line.match_indices(word) {
            let before = at.checked_sub(1).is_some_and(|at| is_part(line.as_bytes()[at]));
            let after = line.as_bytes().get(at + word.len()).is_some_and(|&byte| is_part(byte));
            if !before && !after {
                lines.push(index + 1);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{blank_comments_and_literals, blank_test_modules, words};

    fn has(text: &str) -> bool {
        !words(&blank_comments_and_literals(text), "unsafe").is_empty()
    }

    #[test]
    fn what_is_not_code_is_blanked() {
        for text in [
            "// unsafe",
            "/* a /* unsafe */ unsafe */",
            "\"unsafe\"",
            "\"\\\" unsafe\"",
            "r#\"\" unsafe \"#",
            "b\"unsafe\"",
            "br##\"unsafe\"##",
            "unsafe_code",
        ] {
            assert!(!has(text), "{text}");
        }
    }

    #[test]
    fn what_is_code_stays() {
        for text in [
            "fn f<'a>(x: &'a str) { unsafe {} }",
            "'\"'; unsafe {}",
            "'\\''; unsafe {}",
            "b'\"'; unsafe {}",
            "'é'; unsafe {}",
            "/* a */ unsafe {}",
            "\"a\" unsafe \"b\"",
            "let bar = r; unsafe {}",
        ] {
            assert!(has(text), "{text}");
        }
    }

    #[test]
    fn test_modules_are_left_out_and_lines_stay() {
        let code = "a\n#[cfg(test)]\nmod tests {\n  b\n}\nc\n#[cfg(test)]\nmod more;\nd\n";
        let product = blank_test_modules(code);
        assert_eq!(product.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>(), ["a", "c", "d"]);
        assert_eq!(words(&product, "d"), [9]);
    }
}
