//! Taking a secret out of what a guest is given. Works on whole texts: where a piece of an answer ends must not matter.
//!
//! A host that is given a secret may show it in an error page or an echo. It is recognised as it was sent, without the
//! scheme before it (`Bearer`), and as JSON, percent-encoding and HTML write it. A host that shows it in other ways
//! (encrypted, reversed, letter by letter) is not recognised: the operator chose to trust it.

use std::fmt;

/// What stands in a secret's place.
const MARK: &[u8] = b"***";
/// A part of a value that is shorter is not looked for by itself: it would be found everywhere.
const PART_MIN_BYTES: usize = 8;

/// Secrets to be taken out, in all forms that are recognised.
#[derive(Clone, Default)]
pub struct Redactor(Vec<Vec<u8>>);

impl Redactor {
    /// Adds a secret. Empty ones are none.
    pub fn add(&mut self, secret: &str) {
        self.add_forms(secret);
        if let Some((_, credential)) = secret.rsplit_once([' ', '\t'])
            && credential.len() >= PART_MIN_BYTES
        {
            self.add_forms(credential);
        }
        // The longest first: what holds another goes with it.
        self.0.sort_by_key(|form| std::cmp::Reverse(form.len()));
        self.0.dedup();
    }

    fn add_forms(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let json = text.replace('\\', "\\\\").replace('"', "\\\"");
        let json_with_slash = json.replace('/', "\\/");
        let html =
            text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        let form = percent(text, "+", HEX);
        let url = percent(text, "%20", HEX);
        let lower = percent(text, "%20", b"0123456789abcdef");
        for written in [text, &json, &json_with_slash, &html, &form, &url, &lower] {
            if !self.0.iter().any(|known| known == written.as_bytes()) {
                self.0.push(written.as_bytes().to_vec());
            }
        }
    }

    /// Whether there is nothing to take out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a secret stands in there.
    #[must_use]
    pub fn finds(&self, text: &[u8]) -> bool {
        self.0.iter().any(|form| find(text, form).is_some())
    }

    /// Replaces each secret by `***`, or by as many stars as a shorter one has bytes: the text never grows.
    #[must_use]
    pub fn clean(&self, mut text: Vec<u8>) -> Vec<u8> {
        for form in &self.0 {
            if find(&text, form).is_some() {
                text = replace(&text, form);
            }
        }
        text
    }
}

fn replace(text: &[u8], form: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = find(rest, form) {
        clean.extend_from_slice(&rest[..at]);
        clean.extend_from_slice(&MARK[..MARK.len().min(form.len())]);
        rest = &rest[at + form.len()..];
    }
    clean.extend_from_slice(rest);
    clean
}

/// Where `needle`, which is not empty, begins. Looks for its first byte, which bodies of megabytes allow.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = hay.get(from..)?.iter().position(|&byte| byte == first) {
        if hay[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Percent-encoding (RFC 3986), with `space` for a space.
fn percent(text: &str, space: &str, digits: &[u8; 16]) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b' ' => out.push_str(space),
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => out.push(char::from(b)),
            b => {
                let hex = |nibble: u8| char::from(digits[usize::from(nibble & 15)]);
                out.extend(['%', hex(b >> 4), hex(b)]);
            }
        }
        out
    })
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} forms)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cleaned(secret: &str, text: &str) -> String {
        let mut redactor = Redactor::default();
        redactor.add(secret);
        String::from_utf8(redactor.clean(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn a_secret_is_found_in_the_forms_that_echoes_have() {
        let secret = "Bearer a/b\"c&d+e\\f";
        for (echo, clean) in [
            ("x Bearer a/b\"c&d+e\\f y", "x *** y"),
            ("only a/b\"c&d+e\\f here", "only *** here"),
            (r#"{"h":"Bearer a/b\"c&d+e\\f"}"#, r#"{"h":"***"}"#),
            (r#"{"h":"Bearer a\/b\"c&d+e\\f"}"#, r#"{"h":"***"}"#),
            ("h=Bearer%20a%2Fb%22c%26d%2Be%5Cf&", "h=***&"),
            ("h=Bearer+a%2Fb%22c%26d%2Be%5Cf&", "h=***&"),
            ("<b>Bearer a/b&quot;c&amp;d+e\\f</b>", "<b>***</b>"),
            ("nothing", "nothing"),
            ("Bearer", "Bearer"),
        ] {
            assert_eq!(cleaned(secret, echo), clean, "{echo}");
        }
        assert_eq!(cleaned("ab", "xabab"), "x****");
        assert_eq!(cleaned("Basic short", "short"), "short", "too short a part is not looked for");
        assert_eq!(
            format!("{:?}", {
                let mut r = Redactor::default();
                r.add("s3cret");
                r
            }),
            "Redactor(1 forms)"
        );
    }

    proptest! {
        #[test]
        fn nothing_of_a_secret_is_left(secret in "[a-zA-Z0-9/+=\"&\\\\ ]{1,20}", parts in prop::collection::vec("[a-z]{0,8}", 1..6)) {
            let mut redactor = Redactor::default();
            redactor.add(&secret);
            let clean = redactor.clean(parts.join(&secret).into_bytes());
            prop_assert!(find(&clean, secret.as_bytes()).is_none());
        }

        #[test]
        fn any_text_is_cleaned_without_panic_and_never_grows(secret: String, text: Vec<u8>) {
            let mut redactor = Redactor::default();
            redactor.add(&secret);
            let length = text.len();
            let clean = redactor.clean(text);
            prop_assert!(clean.len() <= length);
        }
    }
}
