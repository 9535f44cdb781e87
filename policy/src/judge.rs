//! Judging gateway calls: what a run was granted and has spent, and the call → a permit or a denial.
//!
//! A call is counted, then judged. The permit owns what the call asked for, in the form to act on, and can be made here
//! only; the gateway performs permits and nothing else. `fetch` holds the judgement of URLs and addresses, `headers` that of
//! header fields, `denial` the rules and their words, `unfit` the calls that could not be sent here, `emit` events and how much of
//! them a run may store. Performing a call, and what a denial looks like to the
//! guest, must not enter.

mod denial;
mod emit;
mod fetch;
mod headers;
mod unfit;

use void_api::{CallKind, clip};

pub use denial::{Denial, Rule};
pub use emit::{EMIT_STORED_MAX_BYTES, EVENT_STORED_BYTES, EmitPermit};
pub use fetch::{ConnectPermit, FetchAsk, FetchPermit, Outgoing, REDIRECTS_MAX};
pub use headers::Field;
pub(crate) use headers::may_set as may_set_header;
pub use unfit::{KvCall, Misfit, Part, Unfit};

use crate::rate::{HttpRates, TokenBucket};
use crate::settings::{Grants, Limits};
use crate::tokens::Tenant;

/// Bytes of an event's data.
pub const EMIT_DATA_MAX_BYTES: usize = 65_536;
/// Bytes of an event's name.
pub const EVENT_NAME_MAX_BYTES: usize = 256;
/// Bytes of a key.
pub const KV_KEY_MAX_BYTES: usize = 256;
/// Bytes of a namespace's name.
pub const KV_NAMESPACE_MAX_BYTES: usize = 64;

/// By what a run is judged: all of it stood when the run was accepted.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Whose run it is.
    pub tenant: &'a Tenant,
    /// What it may ask for.
    pub grants: &'a Grants,
    /// How much of it.
    pub limits: &'a Limits,
}

/// What one run has spent on gateway calls. Begins at nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    calls: u64,
    rate: TokenBucket,
    /// Bytes of events, as they are stored.
    emitted: u64,
}

impl Spent {
    /// Calls made so far, the refused ones included.
    #[must_use]
    pub const fn calls(&self) -> u64 {
        self.calls
    }

    fn count(&mut self, kind: CallKind, limits: &Limits, now_ns: u64) -> Result<(), Denial> {
        self.calls = self.calls.saturating_add(1);
        if self.calls > u64::from(limits.syscalls_max) {
            return Err(Denial::new(
                kind,
                Rule::CallBudget,
                format!("the run made more than {} gateway calls", limits.syscalls_max),
                "raise WASM_SYSCALL_MAX, or call less often",
            ));
        }
        // A second's worth may come at once.
        self.rate.take(now_ns, limits.syscalls_rps, limits.syscalls_rps).map_err(|_| {
            Denial::new(
                kind,
                Rule::CallRate,
                format!("the run made gateway calls faster than {} a second", limits.syscalls_rps),
                "raise WASM_SYSCALL_RPS, or wait between calls",
            )
        })
    }
}

/// What a guest asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// `emit(event, data)`
    Emit {
        /// The event's name.
        event: String,
        /// Its data.
        data: Vec<u8>,
    },
    /// `http.fetch(request)`
    Fetch(FetchAsk),
    /// `kv.get(key)`
    KvGet(KvAsk),
    /// `kv.set(key, value)`
    KvSet(KvAsk, Vec<u8>),
    /// `kv.delete(key)`
    KvDelete(KvAsk),
    /// One of these, of which a part could not be sent here
    Unfit(Unfit),
}

/// A key that a guest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvAsk {
    /// Empty is the tenant's own, unnamed one.
    pub namespace: String,
    /// The key.
    pub key: String,
}

impl Call {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> CallKind {
        match self {
            Self::Emit { .. } => CallKind::Emit,
            Self::Fetch(_) => CallKind::HttpFetch,
            Self::KvGet(_) => CallKind::KvGet,
            Self::KvSet(..) => CallKind::KvSet,
            Self::KvDelete(_) => CallKind::KvDelete,
            Self::Unfit(unfit) => unfit.part.kind(),
        }
    }
}

/// What the gateway may do now, and all that it may do.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permit {
    /// Emit this event.
    Emit(EmitPermit),
    /// Fetch this; the addresses are judged by [`FetchPermit::connect`].
    Fetch(Box<FetchPermit>),
    /// Read this key.
    KvGet(KvPermit),
    /// Write this value.
    KvSet(KvSetPermit),
    /// Delete this key.
    KvDelete(KvPermit),
}

/// A key that may be read or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvPermit {
    tenant: Tenant,
    ask: KvAsk,
}

impl KvPermit {
    /// Whose namespaces are meant.
    #[must_use]
    pub const fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The tenant's namespace; empty is the unnamed one.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.ask.namespace
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.ask.key
    }
}

/// A value that may be written, as long as the namespace has room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvSetPermit {
    place: KvPermit,
    value: Vec<u8>,
    max_keys: u32,
}

impl KvSetPermit {
    /// Where to.
    #[must_use]
    pub const fn place(&self) -> &KvPermit {
        &self.place
    }

    /// What.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// A key that is not there yet may be added only while the namespace has fewer keys than this. The store compares and
    /// writes in one step; only it can.
    #[must_use]
    pub const fn max_keys(&self) -> u32 {
        self.max_keys
    }

    /// The denial for a namespace that the store found full.
    pub fn namespace_full(&self) -> Denial {
        Denial::new(
            CallKind::KvSet,
            Rule::KeysFull,
            format!("the namespace \"{}\" has {} keys already", clip(self.place.namespace()), self.max_keys),
            "raise WASM_KV_MAX_KEYS, or delete a key first",
        )
    }

    /// The denial for one namespace more than the store keeps for a tenant.
    pub fn no_more_namespaces(&self, most: u32) -> Denial {
        Denial::new(
            CallKind::KvSet,
            Rule::NamespacesFull,
            format!("the tenant has keys in {most} namespaces already"),
            "use fewer namespaces, or delete all keys of one first",
        )
    }
}

/// Counts a call and judges it. `now_ns` is monotonic.
///
/// # Errors
/// A denial, which names the rule and what would allow the call. One of them ends the run: see [`Denial::ends_run`].
pub fn judge(
    terms: Terms<'_>,
    spent: &mut Spent,
    rates: &HttpRates,
    now_ns: u64,
    call: Call,
) -> Result<Permit, Denial> {
    let kind = call.kind();
    spent.count(kind, terms.limits, now_ns)?;
    if !terms.grants.caps.grant(kind) {
        let reason = format!("{kind} is not granted");
        return Err(Denial::new(kind, Rule::CapMissing, reason, format!("add {} to WASM_CAPS", kind.cap())));
    }
    match call {
        Call::Emit { event, data } => emit::judge(spent, event, data).map(Permit::Emit),
        Call::Fetch(ask) => {
            fetch::judge(terms, rates, now_ns, ask).map(|permit| Permit::Fetch(Box::new(permit)))
        }
        Call::KvGet(ask) => kv(terms, kind, ask).map(Permit::KvGet),
        Call::KvDelete(ask) => kv(terms, kind, ask).map(Permit::KvDelete),
        Call::KvSet(ask, value) => kv_set(terms, ask, value).map(Permit::KvSet),
        Call::Unfit(unfit) => Err(unfit::refuse(terms, unfit)),
    }
}

fn kv(terms: Terms<'_>, kind: CallKind, ask: KvAsk) -> Result<KvPermit, Denial> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if ask.namespace.len() > KV_NAMESPACE_MAX_BYTES || !ask.namespace.bytes().all(plain) {
        return Err(Denial::new(
            kind,
            Rule::BadName,
            format!("\"{}\" is not a namespace", clip(&ask.namespace)),
            format!("give at most {KV_NAMESPACE_MAX_BYTES} of letters, digits, \".\", \"_\" and \"-\""),
        ));
    }
    if ask.key.is_empty() || ask.key.len() > KV_KEY_MAX_BYTES {
        return Err(Denial::new(
            kind,
            Rule::BadName,
            format!("the key has {} bytes", ask.key.len()),
            format!("give 1 to {KV_KEY_MAX_BYTES} bytes"),
        ));
    }
    Ok(KvPermit { tenant: terms.tenant.clone(), ask })
}

fn kv_set(terms: Terms<'_>, ask: KvAsk, value: Vec<u8>) -> Result<KvSetPermit, Denial> {
    let place = kv(terms, CallKind::KvSet, ask)?;
    let most = usize::try_from(terms.grants.kv.max_value_bytes).unwrap_or(usize::MAX);
    if value.len() > most {
        let setting = Some("WASM_KV_MAX_VALUE_BYTES");
        return Err(Denial::too_large(CallKind::KvSet, "the value", value.len(), most, setting));
    }
    Ok(KvSetPermit { place, value, max_keys: terms.grants.kv.max_keys })
}

#[cfg(test)]
#[path = "judge/fetch_tests.rs"]
mod fetch_tests;
#[cfg(test)]
#[path = "judge/tests.rs"]
mod tests;
