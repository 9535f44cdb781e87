//! A wire call as policy judges it: the same call in policy's words. What it asks for is not looked at here.

use void_ipc::message::{Call as WireCall, CallPart, Key, KeyCall, Misfit as WireMisfit};
use void_policy::judge::{Call, FetchAsk, KvAsk, KvCall, Misfit, Part, Unfit};

/// A wire call as policy judges it; a sleep is no gateway call.
///
/// # Errors
/// How long to sleep, in nanoseconds.
pub(crate) fn ask(call: WireCall) -> Result<Call, u64> {
    let key = |key: Key| KvAsk { namespace: key.namespace, key: key.key };
    Ok(match call {
        WireCall::Emit { event, data } => Call::Emit { event, data },
        WireCall::KvGet(place) => Call::KvGet(key(place)),
        WireCall::KvSet { key: place, value } => Call::KvSet(key(place), value),
        WireCall::KvDelete(place) => Call::KvDelete(key(place)),
        WireCall::Fetch(fetch) => Call::Fetch(FetchAsk {
            method: fetch.method,
            url: fetch.url,
            headers: fetch.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            body: fetch.body,
        }),
        WireCall::Unfit(unfit) => Call::Unfit(Unfit { part: part(unfit.part), misfit: misfit(unfit.misfit) }),
        WireCall::Sleep { nanoseconds } => return Err(nanoseconds),
    })
}

const fn part(part: CallPart) -> Part {
    match part {
        CallPart::EventName => Part::EventName,
        CallPart::EventData => Part::EventData,
        CallPart::Namespace(of) => Part::Namespace(kv_call(of)),
        CallPart::Key(of) => Part::Key(kv_call(of)),
        CallPart::Value => Part::Value,
        CallPart::Method => Part::Method,
        CallPart::Url => Part::Url,
        CallPart::HeaderText => Part::HeaderText,
        CallPart::HeaderLines => Part::HeaderLines,
        CallPart::Body => Part::Body,
    }
}

const fn kv_call(call: KeyCall) -> KvCall {
    match call {
        KeyCall::Get => KvCall::Get,
        KeyCall::Set => KvCall::Set,
        KeyCall::Delete => KvCall::Delete,
    }
}

const fn misfit(misfit: WireMisfit) -> Misfit {
    match misfit {
        WireMisfit::TooLarge { size } => Misfit::TooLarge { size },
        WireMisfit::Invalid => Misfit::Invalid,
    }
}
