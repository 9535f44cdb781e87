//! The forms in which one ASCII character may stand in a text: as it is, and as percent-encoding, JSON and its kin, and
//! HTML write it, also twice over (`%2520`, `\\\"`, `&amp;quot;`). Letters count alike in upper and lower case.
//!
//! A form says nothing of its neighbours: whoever writes a text may mix them freely, and escape one `/` and leave the next.

/// One more than the longest form that is read may have bytes.
pub(super) const FORM_MAX_BYTES: usize = 32;
/// How often an escape may itself be escaped.
const DEPTH: usize = 3;
/// Digits of a number in an entity, leading zeros among them.
const DIGITS_MAX: usize = 10;

/// The names that HTML has for ASCII characters, in lower case.
const NAMES: &[(&str, u8)] = &[
    ("amp", b'&'),
    ("apos", b'\''),
    ("ast", b'*'),
    ("bsol", b'\\'),
    ("colon", b':'),
    ("comma", b','),
    ("commat", b'@'),
    ("dollar", b'$'),
    ("equals", b'='),
    ("excl", b'!'),
    ("grave", b'`'),
    ("gt", b'>'),
    ("hat", b'^'),
    ("lbrace", b'{'),
    ("lbrack", b'['),
    ("lcub", b'{'),
    ("lowbar", b'_'),
    ("lpar", b'('),
    ("lsqb", b'['),
    ("lt", b'<'),
    ("mid", b'|'),
    ("midast", b'*'),
    ("nbsp", b' '),
    ("num", b'#'),
    ("percnt", b'%'),
    ("period", b'.'),
    ("plus", b'+'),
    ("quest", b'?'),
    ("quot", b'"'),
    ("rbrace", b'}'),
    ("rbrack", b']'),
    ("rcub", b'}'),
    ("rpar", b')'),
    ("rsqb", b']'),
    ("semi", b';'),
    ("sol", b'/'),
    ("tab", b'\t'),
    ("underbar", b'_'),
    ("verbar", b'|'),
    ("vert", b'|'),
];

/// A character as characters are compared by.
pub(super) const fn fold(byte: u8) -> u8 {
    byte.to_ascii_lowercase()
}

/// The bytes with which a form of this character may begin.
pub(super) fn begins(character: u8) -> impl Iterator<Item = u8> {
    let plus = if character == b' ' { b'+' } else { character };
    [fold(character), character.to_ascii_uppercase(), plus, b'%', b'\\', b'&'].into_iter()
}

/// Tells `found` each character that the text may begin with, and how many bytes it takes there: fewer than
/// [`FORM_MAX_BYTES`].
pub(super) fn at(text: &[u8], mut found: impl FnMut(u8, usize)) {
    let text = text.get(..FORM_MAX_BYTES - 1).unwrap_or(text);
    let Some(&first) = text.first() else { return };
    found(fold(first), 1);
    match first {
        b'+' => found(b' ', 1),
        b'%' => percent(text, found),
        b'\\' => backslash(text, found),
        b'&' => entity(text, found),
        // As CSV and SQL write them.
        b'"' | b'\'' if text.get(1) == Some(&first) => found(first, 2),
        _ => {}
    }
}

/// `%41`, `%2541`, and `%u0041` of old scripts.
fn percent(text: &[u8], mut found: impl FnMut(u8, usize)) {
    let mut at = 1;
    for _ in 0..DEPTH {
        if matches!(text.get(at), Some(b'u' | b'U'))
            && let Some(character) = ascii(text, at + 1, 4)
        {
            found(character, at + 5);
        }
        let Some(byte) = hex(text, at, 2) else { return };
        let byte = byte as u8;
        at += 2;
        found(fold(byte), at);
        if byte != b'%' {
            return;
        }
    }
}

/// `\"`, `\/`, `\ `, `\t`, `\x41`, `\u0041`, `\u{41}`, and all of them behind more backslashes.
fn backslash(text: &[u8], mut found: impl FnMut(u8, usize)) {
    let most = 1 << DEPTH;
    let run = text.iter().take(most).take_while(|&&byte| byte == b'\\').count();
    (1..=DEPTH)
        .map(|depth| 1 << depth)
        .filter(|&length| length <= run)
        .for_each(|length| found(b'\\', length));
    match text.get(run) {
        Some(b'u' | b'U') => {
            if let Some(character) = ascii(text, run + 1, 4) {
                found(character, run + 5);
            } else if text.get(run + 1) == Some(&b'{') {
                let digits = digits(text, run + 2, 16);
                if let Some(character) = ascii(text, run + 2, digits)
                    && text.get(run + 2 + digits) == Some(&b'}')
                {
                    found(character, run + 3 + digits);
                }
            }
        }
        Some(b'x' | b'X') => {
            if let Some(character) = ascii(text, run + 1, 2) {
                found(character, run + 3);
            }
        }
        Some(b't' | b'T') => found(b'\t', run + 1),
        Some(&mark) if mark == b' ' || mark.is_ascii_punctuation() && mark != b'\\' => found(mark, run + 1),
        _ => {}
    }
}

/// `&quot;`, `&#34;`, `&#x22;`, with leading zeros too, and `&amp;quot;`.
fn entity(text: &[u8], mut found: impl FnMut(u8, usize)) {
    let mut at = 1;
    for _ in 0..DEPTH {
        if let Some((character, length)) = named(text, at).or_else(|| numbered(text, at)) {
            found(fold(character), at + length);
            at += length;
            if character == b'&' {
                continue;
            }
        }
        return;
    }
}

fn named(text: &[u8], from: usize) -> Option<(u8, usize)> {
    let rest = text.get(from..text.len().min(from + FORM_MAX_BYTES / 3))?;
    let length = rest.iter().position(|&byte| byte == b';')?;
    let name = rest.get(..length)?;
    let (_, character) = NAMES.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))?;
    Some((*character, length + 1))
}

fn numbered(text: &[u8], from: usize) -> Option<(u8, usize)> {
    if text.get(from) != Some(&b'#') {
        return None;
    }
    let (begin, base) = match text.get(from + 1)? {
        b'x' | b'X' => (from + 2, 16),
        _ => (from + 1, 10),
    };
    let count = digits(text, begin, base);
    let number = number(text, begin, count, base)?;
    let ends = text.get(begin + count) == Some(&b';');
    (ends && number < 128).then_some((number as u8, begin + count + 1 - from))
}

/// How many digits stand there.
fn digits(text: &[u8], from: usize, base: u32) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.iter().take(DIGITS_MAX).take_while(|&&byte| char::from(byte).is_digit(base)).count()
}

fn hex(text: &[u8], from: usize, count: usize) -> Option<u64> {
    number(text, from, count, 16)
}

/// The number of exactly so many digits.
fn number(text: &[u8], from: usize, count: usize, base: u32) -> Option<u64> {
    let digits = text.get(from..from + count).filter(|digits| !digits.is_empty())?;
    digits.iter().try_fold(0, |number: u64, &byte| {
        Some(number * u64::from(base) + u64::from(char::from(byte).to_digit(base)?))
    })
}

/// The ASCII character of so many hexadecimal digits.
fn ascii(text: &[u8], from: usize, count: usize) -> Option<u8> {
    let number = hex(text, from, count).filter(|number| *number < 128)?;
    Some(fold(number as u8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn forms(text: &str) -> Vec<(char, usize)> {
        let mut all = Vec::new();
        at(text.as_bytes(), |character, length| all.push((char::from(character), length)));
        all
    }

    #[test]
    fn each_form_is_read_to_its_end() {
        for (text, character) in [
            ("A", 'a'),
            ("+", ' '),
            ("%2f", '/'),
            ("%2F", '/'),
            ("%252F", '/'),
            ("%25252f", '/'),
            ("%u002F", '/'),
            ("\\\"", '"'),
            ("\\/", '/'),
            ("\\\\", '\\'),
            ("\\\\\\\\", '\\'),
            ("\\\\\\\"", '"'),
            ("\\u0041", 'a'),
            ("\\U002f", '/'),
            ("\\\\u002F", '/'),
            ("\\u{2f}", '/'),
            ("\\x2F", '/'),
            ("\\t", '\t'),
            ("\\ ", ' '),
            ("\"\"", '"'),
            ("''", '\''),
            ("&amp;", '&'),
            ("&AMP;", '&'),
            ("&amp;amp;", '&'),
            ("&quot;", '"'),
            ("&amp;quot;", '"'),
            ("&apos;", '\''),
            ("&lt;", '<'),
            ("&gt;", '>'),
            ("&sol;", '/'),
            ("&underbar;", '_'),
            ("&#39;", '\''),
            ("&#0000000039;", '\''),
            ("&#x27;", '\''),
            ("&#X0027;", '\''),
            ("&amp;amp;#x00000027;", '\''),
            ("&#43;", '+'),
        ] {
            assert!(text.len() < FORM_MAX_BYTES);
            let read = forms(&format!("{text}x"));
            assert!(read.contains(&(character, text.len())), "{text}: {read:?}");
            // Cut short it is something else.
            let cut = forms(&text[..text.len() - 1]);
            assert!(!cut.contains(&(character, text.len())), "{text}: {cut:?}");
        }
    }

    #[test]
    fn what_is_no_form_is_itself_alone() {
        for text in [
            "%",
            "%2",
            "%zz",
            "&",
            "&;",
            "&x;",
            "&#;",
            "&#x;",
            "&#256;",
            "&#99999999999;",
            "\\",
            "\\u00",
            "\\ä",
        ] {
            assert_eq!(forms(text), [(text.chars().next().unwrap(), 1)], "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_within_bounds(text in "[%&#;\\\\0-9a-fA-FuxX{}mptq25]{0,40}|.{0,40}") {
            let mut count = 0;
            at(text.as_bytes(), |_, length| {
                assert!(length >= 1 && length <= text.len() && length < FORM_MAX_BYTES);
                count += 1;
            });
            prop_assert!(count <= 8);
        }
    }
}
