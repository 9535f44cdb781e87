//! The module `void`, as `docs/abi.md` has it.
//!
//! Pointers and lengths are checked first, all of them, whatever the call will come to; then sizes, then text. Only what
//! passes is copied and sent; of what does not pass, the supervisor is told which part it was, so that it is a call too.

use void_ipc::limits::{
    EVENT_DATA_BYTES, EVENT_NAME_BYTES, FETCH_BODY_BYTES, FETCH_HEADERS, FETCH_HEADERS_BYTES, KEY_BYTES,
    METHOD_BYTES, URL_BYTES, VALUE_BYTES,
};
use void_ipc::message::{Call, CallPart, Fetch, Header, Key, KeyCall, Misfit, Refusal, Unfit};
use wasmtime::{Caller, Linker, Result};

use super::calls::{Answer, Kept};
use super::{Fault, memory};
use crate::engine::RunState;

/// The name under which these functions are imported.
pub(super) const MODULE: &str = "void";

const NOT_FOUND: i32 = -5;

/// Adds them.
///
/// # Errors
/// One is defined already.
pub(super) fn add(linker: &mut Linker<RunState>) -> Result<()> {
    linker.func_wrap(MODULE, "emit", emit)?;
    linker.func_wrap(MODULE, "kv_get", kv_get)?;
    linker.func_wrap(MODULE, "kv_set", kv_set)?;
    linker.func_wrap(MODULE, "kv_delete", kv_delete)?;
    linker.func_wrap(MODULE, "http_fetch", http_fetch)?;
    linker.func_wrap(MODULE, "http_headers", http_headers)?;
    linker.func_wrap(MODULE, "http_body_len", http_body_len)?;
    linker.func_wrap(MODULE, "http_body", http_body)?;
    Ok(())
}

fn emit(
    mut caller: Caller<'_, RunState>,
    event: i32,
    event_len: i32,
    data: i32,
    data_len: i32,
) -> Result<i32> {
    let memory = memory::exported(&caller, "void.emit")?;
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let event = Bytes::at(bytes, "void.emit", "event", event, event_len)?;
    let data = Bytes::at(bytes, "void.emit", "data", data, data_len)?;
    Ok(call(state, || {
        let event = event.text(CallPart::EventName, EVENT_NAME_BYTES)?;
        Ok(Call::Emit { event, data: data.owned(CallPart::EventData, EVENT_DATA_BYTES)? })
    }))
}

#[allow(clippy::too_many_arguments, reason = "the guest's parameters, one for one")]
fn kv_get(
    mut caller: Caller<'_, RunState>,
    namespace: i32,
    namespace_len: i32,
    key: i32,
    key_len: i32,
    value: i32,
    value_cap: i32,
) -> Result<i32> {
    let memory = memory::exported(&caller, "void.kv_get")?;
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let namespace = Bytes::at(bytes, "void.kv_get", "ns", namespace, namespace_len)?;
    let key = Bytes::at(bytes, "void.kv_get", "key", key, key_len)?;
    let room = memory::span(bytes, "void.kv_get", "value", value, value_cap)?;
    let asked = key_of(KeyCall::Get, &namespace, &key).map_or_else(Call::Unfit, Call::KvGet);
    match state.call(asked) {
        Answer::Value(Some(found)) => Ok(hand_out(&mut bytes[room], &found)),
        Answer::Value(None) => Ok(NOT_FOUND),
        other => Ok(code(&other)),
    }
}

#[allow(clippy::too_many_arguments, reason = "the guest's parameters, one for one")]
fn kv_set(
    mut caller: Caller<'_, RunState>,
    namespace: i32,
    namespace_len: i32,
    key: i32,
    key_len: i32,
    value: i32,
    value_len: i32,
) -> Result<i32> {
    let memory = memory::exported(&caller, "void.kv_set")?;
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let namespace = Bytes::at(bytes, "void.kv_set", "ns", namespace, namespace_len)?;
    let key = Bytes::at(bytes, "void.kv_set", "key", key, key_len)?;
    let value = Bytes::at(bytes, "void.kv_set", "value", value, value_len)?;
    Ok(call(state, || {
        let key = key_of(KeyCall::Set, &namespace, &key)?;
        Ok(Call::KvSet { key, value: value.owned(CallPart::Value, VALUE_BYTES)? })
    }))
}

fn kv_delete(
    mut caller: Caller<'_, RunState>,
    namespace: i32,
    namespace_len: i32,
    key: i32,
    key_len: i32,
) -> Result<i32> {
    let memory = memory::exported(&caller, "void.kv_delete")?;
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let namespace = Bytes::at(bytes, "void.kv_delete", "ns", namespace, namespace_len)?;
    let key = Bytes::at(bytes, "void.kv_delete", "key", key, key_len)?;
    Ok(call(state, || key_of(KeyCall::Delete, &namespace, &key).map(Call::KvDelete)))
}

#[allow(clippy::too_many_arguments, reason = "the guest's parameters, one for one")]
fn http_fetch(
    mut caller: Caller<'_, RunState>,
    method: i32,
    method_len: i32,
    url: i32,
    url_len: i32,
    headers: i32,
    headers_len: i32,
    body: i32,
    body_len: i32,
) -> Result<i32> {
    let memory = memory::exported(&caller, "void.http_fetch")?;
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let method = Bytes::at(bytes, "void.http_fetch", "method", method, method_len)?;
    let url = Bytes::at(bytes, "void.http_fetch", "url", url, url_len)?;
    let headers = Bytes::at(bytes, "void.http_fetch", "headers", headers, headers_len)?;
    let body = Bytes::at(bytes, "void.http_fetch", "body", body, body_len)?;
    state.calls.kept = None;
    Ok(call(state, || {
        // What is too large is so before anything of it is looked at.
        let (url, body) = (url.text(CallPart::Url, URL_BYTES), body.owned(CallPart::Body, FETCH_BODY_BYTES)?);
        Ok(Call::Fetch(Fetch {
            method: method.text(CallPart::Method, METHOD_BYTES)?,
            headers: header_fields(headers.bounded(CallPart::HeaderText, FETCH_HEADERS_BYTES)?)?,
            url: url?,
            body,
        }))
    }))
}

fn http_headers(mut caller: Caller<'_, RunState>, out: i32, out_cap: i32) -> Result<i32> {
    let memory = memory::exported(&caller, "void.http_headers")?;
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let room = memory::span(bytes, "void.http_headers", "out", out, out_cap)?;
    Ok(kept(state).map_or(NOT_FOUND, |kept| hand_out(&mut bytes[room], &kept.headers)))
}

fn http_body_len(caller: Caller<'_, RunState>) -> i32 {
    kept(caller.data()).map_or(NOT_FOUND, |kept| length(kept.body.len()))
}

fn http_body(mut caller: Caller<'_, RunState>, offset: i32, out: i32, out_cap: i32) -> Result<i32> {
    let memory = memory::exported(&caller, "void.http_body")?;
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let room = memory::span(bytes, "void.http_body", "out", out, out_cap)?;
    let Some(kept) = kept(state) else { return Ok(NOT_FOUND) };
    let rest = kept.body.get(offset.cast_unsigned() as usize..).unwrap_or_default();
    let now = &rest[..rest.len().min(room.len())];
    bytes[room][..now.len()].copy_from_slice(now);
    Ok(length(now.len()))
}

/// Bytes of the guest's memory that lie inside it.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn at(memory: &'a [u8], function: &str, what: &str, pointer: i32, length: i32) -> Result<Self, Fault> {
        memory::span(memory, function, what, pointer, length).map(|span| Bytes(&memory[span]))
    }

    fn bounded(&self, part: CallPart, max: usize) -> Result<&'a [u8], Unfit> {
        if self.0.len() > max { Err(too_large(part, self.0.len())) } else { Ok(self.0) }
    }

    fn owned(&self, part: CallPart, max: usize) -> Result<Vec<u8>, Unfit> {
        self.bounded(part, max).map(<[u8]>::to_vec)
    }

    fn text(&self, part: CallPart, max: usize) -> Result<String, Unfit> {
        let text = std::str::from_utf8(self.bounded(part, max)?).map_err(|_| invalid(part))?;
        Ok(text.to_owned())
    }
}

fn too_large(part: CallPart, size: usize) -> Unfit {
    // A length that a guest names has 32 bits.
    Unfit { part, misfit: Misfit::TooLarge { size: u32::try_from(size).unwrap_or(u32::MAX) } }
}

fn invalid(part: CallPart) -> Unfit {
    Unfit { part, misfit: Misfit::Invalid }
}

fn key_of(call: KeyCall, namespace: &Bytes<'_>, key: &Bytes<'_>) -> Result<Key, Unfit> {
    let namespace = namespace.text(CallPart::Namespace(call), KEY_BYTES)?;
    Ok(Key { namespace, key: key.text(CallPart::Key(call), KEY_BYTES)? })
}

/// Lines of `name: value`, each ended by a line feed. Whether they are names and values is policy's to say.
fn header_fields(text: &[u8]) -> Result<Vec<Header>, Unfit> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let unfit = || invalid(CallPart::HeaderText);
    let lines = text.strip_suffix(b"\n").ok_or_else(unfit)?;
    let count = lines.iter().filter(|byte| **byte == b'\n').count() + 1;
    if count > FETCH_HEADERS {
        return Err(too_large(CallPart::HeaderLines, count));
    }
    let field = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(unfit)?;
        let name = std::str::from_utf8(&line[..colon]).map_err(|_| unfit())?;
        Ok(Header { name: name.to_owned(), value: without_blanks(&line[colon + 1..]).to_vec() })
    };
    lines.split(|byte| *byte == b'\n').map(field).collect()
}

/// Without the spaces and tabs around it (RFC 9110, 5.5).
fn without_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn call(state: &mut RunState, made: impl FnOnce() -> Result<Call, Unfit>) -> i32 {
    code(&state.call(made().unwrap_or_else(Call::Unfit)))
}

/// The answer as the guest sees it.
fn code(answer: &Answer) -> i32 {
    match answer {
        Answer::Done => 0,
        Answer::Deleted(was_there) => i32::from(*was_there),
        Answer::Fetched(status) => i32::from(*status),
        // Only kv_get is answered with a value, and it writes it.
        Answer::Value(_) => void_seccomp::exit(1),
        Answer::Refused(refusal) => match refusal {
            Refusal::Denied => -1,
            Refusal::RateLimited => -2,
            Refusal::TooLarge => -3,
            Refusal::Invalid => -4,
            Refusal::Full => -6,
            Refusal::TimedOut => -7,
            Refusal::Unreachable => -8,
            Refusal::Unavailable => -9,
        },
    }
}

/// Writes `found` where it fits, and says how long it is in any case.
fn hand_out(room: &mut [u8], found: &[u8]) -> i32 {
    if let Some(room) = room.get_mut(..found.len()) {
        room.copy_from_slice(found);
    }
    length(found.len())
}

fn length(length: usize) -> i32 {
    // All that is kept came over the wire in pieces that sum up to far less.
    i32::try_from(length).unwrap_or(i32::MAX)
}

fn kept(state: &RunState) -> Option<&Kept> {
    state.calls.kept.as_ref()
}
