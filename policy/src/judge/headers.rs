//! Judging the header fields of a request: which there may be, and which are not a guest's to set.

use void_api::{CallKind, clip};

use super::fetch::deny;
use super::{Denial, Rule};

pub(super) const HEADERS_MAX: usize = 64;
pub(super) const HEADERS_MAX_BYTES: usize = 16_384;

/// A header field: name and value.
pub type Field = (String, Vec<u8>);

/// Headers that belong to the connection, and those that a host behind a proxy believes instead of the connection or the
/// URL: who asks, by what way, for which host and which path.
const OWN_HEADERS: &[&str] = &[
    "accept-encoding",
    "cf-connecting-ip",
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "front-end-https",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// Beginnings of names of such headers.
const OWN_PREFIXES: &[&str] = &["proxy-", "x-forwarded"];

pub(super) fn judge(headers: Vec<Field>) -> Result<Vec<Field>, Denial> {
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > HEADERS_MAX || bytes > HEADERS_MAX_BYTES {
        let reason = format!("the request has {} headers of {bytes} bytes together", headers.len());
        let remedy = format!("send at most {HEADERS_MAX} headers of {HEADERS_MAX_BYTES} bytes together");
        return Err(Denial::new(CallKind::HttpFetch, Rule::TooLarge, reason, remedy));
    }
    headers.into_iter().map(judge_one).collect()
}

fn judge_one((name, value): Field) -> Result<Field, Denial> {
    let name = name.to_ascii_lowercase();
    if !is_token(&name) {
        let reason = format!("\"{}\" is not a header's name", clip(&name));
        return Err(deny(Rule::BadHeader, reason, "give a name of letters, digits and \"-\""));
    }
    if !may_set(&name) {
        let reason = format!("the header \"{}\" may not be set", clip(&name));
        return Err(deny(Rule::Header, reason, "leave it out; the service sets what the connection needs"));
    }
    // A line break would begin another header, or another request. It is no less one at the end of a value.
    if !value.iter().all(|&b| b == b'\t' || b >= b' ' && b != 0x7f) {
        let reason = format!("the value of the header \"{}\" has a control character", clip(&name));
        return Err(deny(Rule::BadHeader, reason, "remove it"));
    }
    Ok((name, value.trim_ascii().to_vec()))
}

/// Whether a lower-case header may be set by a guest or a secret: a token (RFC 9110), and not one of the connection's own.
pub(crate) fn may_set(name: &str) -> bool {
    is_token(name)
        && !OWN_HEADERS.contains(&name)
        && !OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn is_token(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(token)
}
