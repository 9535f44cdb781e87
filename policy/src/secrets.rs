//! The secrets file: one `host header value` a line. The supervisor adds the header to requests to that host; the guest
//! never sees it. A host is written as in the allowlist (`host` or `host:port`, no `*.`); the value is the rest of the
//! line. No message and no debug output repeats a value.
//!
//! A host without a port is meant at whatever port the allowlist lets a request go to; in the clear only where that is
//! none of the usual two, which the operator must have named: a guest must not be able to have a secret sent in the clear by
//! writing http for https. With a port it is what speaks there, http or https.

mod forms;
mod redact;
mod search;

use std::fmt;

use url::Url;

pub use redact::Redactor;

use crate::allowlist::{HostKey, Place};

/// Bytes of a header's value.
const VALUE_MAX_BYTES: usize = 8192;

/// One header that is added.
#[derive(Clone, PartialEq, Eq)]
struct Secret {
    place: Place,
    header: String,
    value: String,
}

/// The secrets in force.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<Secret>);

/// A line of the secrets file that is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// Not three parts.
    #[error("secrets file, line {0}: write a host, a header's name and its value, or # and a comment")]
    Form(usize),
    /// Not a host.
    #[error("secrets file, line {0}: the host must be host or host:port")]
    Host(usize),
    /// Not a header that can be added.
    #[error("secrets file, line {0}: this is not a header's name, or one that only the connection may set")]
    Header(usize),
    /// Not a value.
    #[error(
        "secrets file, line {0}: a value has at most {VALUE_MAX_BYTES} visible ASCII characters and spaces"
    )]
    Value(usize),
}

impl Secrets {
    /// Reads the text of a secrets file. `#` at the start of a line begins a comment.
    ///
    /// # Errors
    /// Each line that is not understood.
    pub fn parse(text: &str) -> Result<Self, Vec<SecretsError>> {
        let (mut secrets, mut errors) = (Vec::new(), Vec::new());
        for (number, line) in (1..).zip(text.strip_prefix('\u{feff}').unwrap_or(text).lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match parse_line(number, line) {
                Ok(secret) => secrets.push(secret),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self(secrets)) } else { Err(errors) }
    }

    /// The headers, lower case, and values to add to a request to this URL. They replace the guest's of the same name.
    pub fn headers_for<'a>(&'a self, url: &'a Url) -> impl Iterator<Item = (&'a str, &'a str)> {
        let host = url.host().and_then(|host| HostKey::of(&host));
        self.0
            .iter()
            .filter(move |secret| host.as_ref() == Some(&secret.place.host))
            .filter(|secret| match (secret.place.port, url.port_or_known_default()) {
                (Some(meant), port) => Some(meant) == port,
                (None, port) => url.scheme() == "https" || !matches!(port, None | Some(80 | 443)),
            })
            .map(|secret| (secret.header.as_str(), secret.value.as_str()))
    }
}

fn parse_line(number: usize, line: &str) -> Result<Secret, SecretsError> {
    let word = |text: &'_ str| text.find([' ', '\t']).ok_or(SecretsError::Form(number));
    let (host, rest) = line.split_at(word(line)?);
    let rest = rest.trim_start();
    let (header, value) = rest.split_at(word(rest)?);
    let value = value.trim_start();
    if value.is_empty() {
        return Err(SecretsError::Form(number));
    }
    let place = Place::parse(host).ok_or(SecretsError::Host(number))?;
    let header = header.to_ascii_lowercase();
    if !crate::judge::may_set_header(&header) {
        return Err(SecretsError::Header(number));
    }
    if value.len() > VALUE_MAX_BYTES
        || !value.bytes().all(|b| b == b' ' || b == b'\t' || b.is_ascii_graphic())
    {
        return Err(SecretsError::Value(number));
    }
    Ok(Secret { place, header, value: value.to_owned() })
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|secret| format!("{} {}", secret.place, secret.header)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(secrets: &Secrets, url: &str) -> Vec<(String, String)> {
        let url = Url::parse(url).unwrap();
        secrets.headers_for(&url).map(|(header, value)| (header.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_secret_goes_to_its_host_only() {
        let secrets =
            Secrets::parse("# c\napi.example.com Authorization  Bearer a b\n10.0.0.1:8080\tX-Key k\n")
                .unwrap();
        let expected = [("authorization".to_owned(), "Bearer a b".to_owned())];
        assert_eq!(headers(&secrets, "https://API.example.com/x"), expected);
        assert_eq!(headers(&secrets, "https://api.example.com:8443/"), expected);
        assert_eq!(headers(&secrets, "http://api.example.com:8080/"), expected);
        assert_eq!(headers(&secrets, "http://10.0.0.1:8080/").len(), 1);
        for other in [
            "https://example.com/",
            "https://a.api.example.com/",
            "http://api.example.com/",
            "http://api.example.com:443/",
            "http://10.0.0.1/",
        ] {
            assert!(headers(&secrets, other).is_empty(), "{other}");
        }
        assert!(!format!("{secrets:?}").contains("Bearer"));
    }

    #[test]
    fn lines_that_are_not_understood_are_named() {
        let errors =
            Secrets::parse("a.com\na.com X\n*.a.com X v\na.com Host v\na.com X-\u{e9} v\na.com X \u{7f}\n")
                .unwrap_err();
        assert_eq!(
            errors,
            [
                SecretsError::Form(1),
                SecretsError::Form(2),
                SecretsError::Host(3),
                SecretsError::Header(4),
                SecretsError::Header(5),
                SecretsError::Value(6)
            ]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_panic(text: String) {
            let _ = Secrets::parse(&text);
        }
    }
}
