//! A refused gateway call: which rule, why, and what would allow it.

use void_api::{CallKind, Decision, DenialNote};

/// The rules that refuse, a closed set: the words are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The kind is not in `WASM_CAPS`.
    CapMissing,
    /// More calls than the run has. The only rule that ends the run.
    CallBudget,
    /// The run's calls come too fast.
    CallRate,
    /// The run's events would take more room than it has for them.
    EmitBudget,
    /// The tenant's requests to the host come too fast.
    HostRate,
    /// Not a URL.
    BadUrl,
    /// Neither http nor https.
    Scheme,
    /// A user or password in the URL.
    UserInfo,
    /// The allowlist does not have the host at this port.
    HostNotAllowed,
    /// The host has an address that is not public, or none.
    AddressNotPublic,
    /// One redirect too many.
    TooManyRedirects,
    /// A method that may not be used.
    Method,
    /// A header that may not be set.
    Header,
    /// A header that is none: its name is no token, or its value has a control character.
    BadHeader,
    /// It could let a secret of the operator out.
    Secret,
    /// More bytes than allowed.
    TooLarge,
    /// A name of an event, a namespace or a key that is none.
    BadName,
    /// The namespace has as many keys as it may.
    KeysFull,
    /// The tenant has as many namespaces as it may.
    NamespacesFull,
}

impl Rule {
    /// Every rule.
    pub const ALL: &'static [Self] = &[
        Self::CapMissing,
        Self::CallBudget,
        Self::CallRate,
        Self::EmitBudget,
        Self::HostRate,
        Self::BadUrl,
        Self::Scheme,
        Self::UserInfo,
        Self::HostNotAllowed,
        Self::AddressNotPublic,
        Self::TooManyRedirects,
        Self::Method,
        Self::Header,
        Self::BadHeader,
        Self::Secret,
        Self::TooLarge,
        Self::BadName,
        Self::KeysFull,
        Self::NamespacesFull,
    ];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CapMissing => "cap_missing",
            Self::CallBudget => "call_budget",
            Self::CallRate => "call_rate",
            Self::EmitBudget => "emit_budget",
            Self::HostRate => "host_rate",
            Self::BadUrl => "bad_url",
            Self::Scheme => "scheme",
            Self::UserInfo => "userinfo",
            Self::HostNotAllowed => "host_not_allowed",
            Self::AddressNotPublic => "address_not_public",
            Self::TooManyRedirects => "too_many_redirects",
            Self::Method => "method",
            Self::Header => "header",
            Self::BadHeader => "bad_header",
            Self::Secret => "secret",
            Self::TooLarge => "too_large",
            Self::BadName => "bad_name",
            Self::KeysFull => "keys_full",
            Self::NamespacesFull => "namespaces_full",
        }
    }
}

/// A refusal. Its texts are bounded and fit for a log; the guest gets a code instead.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    kind: CallKind,
    rule: Rule,
    reason: String,
    remedy: String,
}

impl Denial {
    pub(super) fn new(kind: CallKind, rule: Rule, reason: String, remedy: impl Into<String>) -> Self {
        Self { kind, rule, reason, remedy: remedy.into() }
    }

    pub(super) fn too_large(
        kind: CallKind,
        what: &str,
        has: usize,
        most: usize,
        setting: Option<&'static str>,
    ) -> Self {
        let raise = setting.map(|name| format!("raise {name}, or ")).unwrap_or_default();
        let reason = format!("{what} has {has} bytes");
        Self::new(kind, Rule::TooLarge, reason, format!("{raise}send at most {most} bytes"))
    }

    /// What was asked for.
    #[must_use]
    pub const fn kind(&self) -> CallKind {
        self.kind
    }

    /// Which rule refused.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        self.rule
    }

    /// What was refused, one sentence.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What would allow it, one sentence.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// How the call is counted.
    #[must_use]
    pub const fn decision(&self) -> Decision {
        match self.rule {
            Rule::CallRate | Rule::HostRate => Decision::RateLimited,
            _ => Decision::Deny,
        }
    }

    /// Whether the run ends by it, with the reason `syscall_budget`. Every other denial is a code to the guest.
    #[must_use]
    pub const fn ends_run(&self) -> bool {
        matches!(self.rule, Rule::CallBudget)
    }

    /// For the run's record.
    #[must_use]
    pub fn note(&self, count: u32) -> DenialNote {
        DenialNote {
            kind: self.kind,
            rule: self.rule.as_str().to_owned(),
            reason: self.reason.clone(),
            remedy: self.remedy.clone(),
            count,
        }
    }
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} refused by {}: {}; to allow it, {}",
            self.kind,
            self.rule.as_str(),
            self.reason,
            self.remedy
        )
    }
}
