//! The forms in which one ASCII character may stand in a text: as it is, and as percent-encoding, JSON and its kin, and
//! HTML write it, also one within the other (`%2520`, `\\\"`, `&amp;quot;`, `\u0026#43;`). Letters count alike in upper and
//! lower case.
//!
//! A form says nothing of its neighbours: whoever writes a text may mix them freely, and escape one `/` and leave the next.

/// One more than the longest form that is read may have bytes.
pub(super) const FORM_MAX_BYTES: usize = 32;
/// How many writers may have put a text into one another.
const DEPTH: usize = 3;
/// How many escapes are undone one after the other. What stands behind a backslash may be escaped as often as that itself.
const ESCAPES: usize = 2 * DEPTH;
/// Letters of a name in [`NAMES`].
const NAME_MAX_BYTES: usize = 8;
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
    let (mut character, mut end) = (first, 1);
    for _ in 0..ESCAPES {
        tell(text, character, end, &mut found);
        let next = match character {
            b'\\' => backslashes(text, end, &mut found),
            _ => escape(text, character, end, DEPTH),
        };
        let Some(next) = next else { return };
        (character, end) = next;
    }
    tell(text, character, end, &mut found);
}

/// Tells a character that ends there, and what it may mean with what follows.
fn tell(text: &[u8], character: u8, end: usize, found: &mut impl FnMut(u8, usize)) {
    found(fold(character), end);
    match character {
        // As forms write it, whatever they were put into.
        b'+' => found(b' ', end),
        // As CSV and SQL write them. Both alike: the other mark of `\""` ends a text in JSON.
        b'"' | b'\'' => {
            let (form, rest) = text.split_at(end);
            if rest.starts_with(form) {
                found(character, 2 * end);
            }
        }
        _ => {}
    }
}

/// What a run of backslashes stands for, the first of which ends there, and what stands behind it.
fn backslashes(text: &[u8], end: usize, found: &mut impl FnMut(u8, usize)) -> Option<(u8, usize)> {
    let (mut run, mut end) = (1usize, end);
    while run < 1 << DEPTH
        && let Some(next) = unit(text, end, b'\\', DEPTH)
    {
        (run, end) = (run + 1, next);
        if run.is_power_of_two() {
            found(b'\\', end);
        }
    }
    // A longer run says nothing more.
    if run == 1 << DEPTH && text.get(end) == Some(&b'\\') {
        return None;
    }
    escape(text, b'\\', end, DEPTH)
}

/// The character of the escape whose first character, which ends there, is this one. Its other marks may be escaped
/// themselves, so often.
fn escape(text: &[u8], begun: u8, end: usize, depth: usize) -> Option<(u8, usize)> {
    match begun {
        b'%' => percent(text, end),
        b'&' => named(text, end, depth).or_else(|| numbered(text, end, depth)),
        b'\\' => backslash(text, end, depth),
        _ => None,
    }
}

/// Where this mark ends if it stands there, as it is or escaped so often.
fn unit(text: &[u8], from: usize, mark: u8, depth: usize) -> Option<usize> {
    let (mut character, mut end) = (*text.get(from)?, from + 1);
    for left in (0..depth).rev() {
        if character == mark {
            break;
        }
        (character, end) = escape(text, character, end, left)?;
    }
    (character == mark).then_some(end)
}

/// `%41`, and `%u0041` of old scripts.
fn percent(text: &[u8], from: usize) -> Option<(u8, usize)> {
    if matches!(text.get(from), Some(b'u' | b'U')) {
        return Some((ascii(text, from + 1, 4)?, from + 5));
    }
    Some((hex(text, from, 2)? as u8, from + 2))
}

/// `\"`, `\/`, `\ `, `\t`, `\x41`, `\u0041`, `\u{41}`, and `\101`, which has as many digits as stand there, and three at
/// most.
fn backslash(text: &[u8], from: usize, depth: usize) -> Option<(u8, usize)> {
    match text.get(from)? {
        b'u' | b'U' => {
            if let Some(character) = ascii(text, from + 1, 4) {
                return Some((character, from + 5));
            }
            let begin = unit(text, from + 1, b'{', depth)?;
            let end = begin + digits(text, begin, 16);
            Some((ascii(text, begin, end - begin)?, unit(text, end, b'}', depth)?))
        }
        b'x' | b'X' => Some((ascii(text, from + 1, 2)?, from + 3)),
        b'0'..=b'7' => {
            let count = digits(text, from, 8).min(3);
            let number = number(text, from, count, 8).filter(|number| *number < 128)?;
            Some((number as u8, from + count))
        }
        b't' | b'T' => Some((b'\t', from + 1)),
        &mark => (mark == b' ' || mark.is_ascii_punctuation()).then_some((mark, from + 1)),
    }
}

/// `&quot;`.
fn named(text: &[u8], from: usize, depth: usize) -> Option<(u8, usize)> {
    let rest = text.get(from..text.len().min(from + NAME_MAX_BYTES + 1))?;
    let length = rest.iter().position(|byte| !byte.is_ascii_alphabetic())?;
    let name = rest.get(..length).filter(|name| !name.is_empty())?;
    let end = unit(text, from + length, b';', depth)?;
    let (_, character) = NAMES.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))?;
    Some((*character, end))
}

/// `&#34;` and `&#x22;`, with leading zeros too, and without the `;`, which readers of HTML do not insist on.
fn numbered(text: &[u8], from: usize, depth: usize) -> Option<(u8, usize)> {
    let from = unit(text, from, b'#', depth)?;
    let (begin, base) = match text.get(from)? {
        b'x' | b'X' => (from + 1, 16),
        _ => (from, 10),
    };
    let count = digits(text, begin, base);
    let number = number(text, begin, count, base).filter(|number| count <= DIGITS_MAX && *number < 128)?;
    let end = begin + count;
    Some((number as u8, unit(text, end, b';', depth).unwrap_or(end)))
}

/// How many digits stand there, up to one more than a number may have.
fn digits(text: &[u8], from: usize, base: u32) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.iter().take(DIGITS_MAX + 1).take_while(|&&byte| char::from(byte).is_digit(base)).count()
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
            ("&#43", '+'),
            ("&#x2B", '+'),
            ("\\053", '+'),
            ("\\53", '+'),
            ("\\\\053", '+'),
            ("&#43;", ' '),
            ("%2B", ' '),
            // One within the other.
            ("\\u0026#43;", '+'),
            ("\\u0026amp;#43;", '+'),
            ("\\u00252B", '+'),
            ("%5Cu002B", '+'),
            ("&#37;2B", '+'),
            ("&percnt;2B", '+'),
            ("%26%2343%3B", '+'),
            ("%2526%252343%253B", '+'),
            ("%26amp%3B%23x2b%3b", '+'),
            ("%26quot%3B", '"'),
            ("\\&quot;", '"'),
            ("\\\\\\&quot;", '"'),
            ("&#92;&#34;", '"'),
            ("%5C%22", '"'),
            ("%255C%2522", '"'),
            ("%5C%5C%5C%22", '"'),
            ("%5C%5C", '\\'),
            ("\\u005cu0026#43;", '+'),
            ("\\u0026\\u002343\\u003b", '+'),
            ("&amp;&num;43&semi;", '+'),
            ("%5Cu%7B2b%7D", '+'),
            ("\\\"\\\"", '"'),
            ("&quot;&quot;", '"'),
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
            "&#00000000043;",
            "&#435",
            "&#x2bc",
            "\\8",
            "\\777",
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
            // One for each escape, for each doubling of backslashes, and for what the last may mean.
            prop_assert!(count <= 1 + ESCAPES + FORM_MAX_BYTES / 2 + 1);
        }
    }
}
