//! Calls of which a part could not be sent here: counted and judged like any other, and always refused. Which part it was
//! and what is wrong with it is all that is known of them; the bytes stayed where they were.

use void_api::CallKind;

use super::fetch::{BODY_MAX_BYTES, URL_MAX_BYTES, not_a_method};
use super::headers::{HEADERS_MAX, HEADERS_MAX_BYTES};
use super::{Denial, EMIT_DATA_MAX_BYTES, EVENT_NAME_MAX_BYTES, KV_KEY_MAX_BYTES, KV_NAMESPACE_MAX_BYTES};
use super::{Rule, Terms};

/// A call that could not be sent as it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit {
    /// Which part is unfit, and thereby of which call.
    pub part: Part,
    /// What is wrong with it.
    pub misfit: Misfit,
}

/// A part of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The name of `emit`.
    EventName,
    /// The data of `emit`.
    EventData,
    /// The namespace of a key.
    Namespace(KvCall),
    /// The key itself.
    Key(KvCall),
    /// The value of `kv.set`.
    Value,
    /// The method of `http.fetch`.
    Method,
    /// Its URL.
    Url,
    /// Its header text.
    HeaderText,
    /// The number of lines of that text.
    HeaderLines,
    /// Its body.
    Body,
}

/// A call that names a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvCall {
    /// `kv.get`
    Get,
    /// `kv.set`
    Set,
    /// `kv.delete`
    Delete,
}

/// What is wrong with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// It has more than can be sent.
    TooLarge {
        /// Bytes, or lines.
        size: u32,
    },
    /// It is not UTF-8, or no lines of `name: value`.
    Invalid,
}

impl Part {
    /// The kind of the call that it is a part of.
    #[must_use]
    pub const fn kind(self) -> CallKind {
        match self {
            Self::EventName | Self::EventData => CallKind::Emit,
            Self::Namespace(KvCall::Get) | Self::Key(KvCall::Get) => CallKind::KvGet,
            Self::Namespace(KvCall::Set) | Self::Key(KvCall::Set) | Self::Value => CallKind::KvSet,
            Self::Namespace(KvCall::Delete) | Self::Key(KvCall::Delete) => CallKind::KvDelete,
            Self::Method | Self::Url | Self::HeaderText | Self::HeaderLines | Self::Body => {
                CallKind::HttpFetch
            }
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::EventName => "the event's name",
            Self::EventData => "the event's data",
            Self::Namespace(_) => "the namespace",
            Self::Key(_) => "the key",
            Self::Value => "the value",
            Self::Method => "the method",
            Self::Url => "the URL",
            Self::HeaderText | Self::HeaderLines => "the request's header text",
            Self::Body => "the request's body",
        }
    }
}

pub(super) fn refuse(terms: Terms<'_>, Unfit { part, misfit }: Unfit) -> Denial {
    match misfit {
        Misfit::TooLarge { size } => too_large(terms, part, size),
        Misfit::Invalid => invalid(part),
    }
}

fn too_large(terms: Terms<'_>, part: Part, size: u32) -> Denial {
    let most = match part {
        Part::EventName => EVENT_NAME_MAX_BYTES,
        Part::EventData => EMIT_DATA_MAX_BYTES,
        Part::Namespace(_) => KV_NAMESPACE_MAX_BYTES,
        Part::Key(_) => KV_KEY_MAX_BYTES,
        // No setting is named: what cannot be sent is more than the setting can be raised to.
        Part::Value => usize::try_from(terms.grants.kv.max_value_bytes).unwrap_or(usize::MAX),
        // However long, it is none of those that there are.
        Part::Method => return not_a_method(format!("the method has {size} bytes")),
        Part::Url => URL_MAX_BYTES,
        Part::HeaderText => HEADERS_MAX_BYTES,
        Part::HeaderLines => {
            let reason = format!("the request's header text has {size} lines");
            return Denial::new(
                part.kind(),
                Rule::TooLarge,
                reason,
                format!("send at most {HEADERS_MAX} lines"),
            );
        }
        Part::Body => BODY_MAX_BYTES,
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    Denial::too_large(part.kind(), part.words(), size, most, None)
}

fn invalid(part: Part) -> Denial {
    let not_text = || format!("{} is not UTF-8", part.words());
    let refuse = |rule: Rule, reason: String, remedy: String| Denial::new(part.kind(), rule, reason, remedy);
    match part {
        Part::EventName => refuse(
            Rule::BadName,
            not_text(),
            format!("give 1 to {EVENT_NAME_MAX_BYTES} bytes of UTF-8 without control characters"),
        ),
        Part::Namespace(_) => refuse(
            Rule::BadName,
            not_text(),
            format!("give at most {KV_NAMESPACE_MAX_BYTES} of letters, digits, \".\", \"_\" and \"-\""),
        ),
        Part::Key(_) => {
            refuse(Rule::BadName, not_text(), format!("give 1 to {KV_KEY_MAX_BYTES} bytes of UTF-8"))
        }
        // Any bytes are data and a value: no sound worker says this, and one that does is told what it says.
        Part::EventData | Part::Value => {
            refuse(Rule::BadName, not_text(), "send it as it is: it need not be UTF-8".to_owned())
        }
        Part::Method => not_a_method(not_text()),
        Part::Url => refuse(Rule::BadUrl, not_text(), "give an absolute http:// or https:// URL".to_owned()),
        Part::HeaderText | Part::HeaderLines | Part::Body => refuse(
            Rule::BadHeader,
            "the request's header text is not lines of \"name: value\" with names of UTF-8".to_owned(),
            "give each header a name, a colon, a value and a line feed at the end".to_owned(),
        ),
    }
}
