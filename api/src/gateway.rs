//! The words for gateway calls that appear in metrics, logs and records. Judging them is policy's.

use serde::{Deserialize, Serialize};

crate::words::words! {
    /// The kind of a gateway call.
    CallKind {
        /// `emit(event, data)`
        Emit = "emit",
        /// `http.fetch(request)`
        HttpFetch = "http.fetch",
        /// `kv.get(key)`
        KvGet = "kv.get",
        /// `kv.set(key, value)`
        KvSet = "kv.set",
        /// `kv.delete(key)`
        KvDelete = "kv.delete",
    }
}

impl CallKind {
    /// The word of `WASM_CAPS` that grants this kind.
    #[must_use]
    pub const fn cap(self) -> &'static str {
        match self {
            Self::Emit => "emit",
            Self::HttpFetch => "http",
            Self::KvGet | Self::KvSet | Self::KvDelete => "kv",
        }
    }
}

crate::words::words! {
    /// How a gateway call was answered.
    Decision {
        /// Permitted and performed.
        Allow = "allow",
        /// Refused by policy.
        Deny = "deny",
        /// Refused for now: too many in too short a time.
        RateLimited = "rate_limited",
        /// Permitted, and failed.
        Error = "error",
    }
}

/// A refused gateway call, as the run's record tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DenialNote {
    /// What the guest asked for.
    pub kind: CallKind,
    /// The rule that refused, a fixed word.
    pub rule: String,
    /// What was refused, in one sentence.
    pub reason: String,
    /// What would allow it, in one sentence.
    pub remedy: String,
    /// How often the run met this refusal, and others that this note says it stands for.
    pub count: u32,
}
