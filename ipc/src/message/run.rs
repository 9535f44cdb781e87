//! The messages to and from a run process.

use super::Value;
use crate::codec::{Decode, Encode};

/// To a run process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ToRun {
    /// Execute. Legal once, in phase ready; where run processes are used again, also after each [`FromRun::Done`]. Where it
    /// announces stdin, [`ToRun::Part`]s follow at once.
    Start(Start),
    /// The next bytes of what was announced (stdin, a fetched body), at most [`crate::limits::PART_BYTES`]
    /// each, until all of it has come.
    Part(Vec<u8>),
    /// The answer to the gateway call under way.
    Reply(Reply),
}

/// What to execute.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Start {
    /// The exported function.
    pub export: String,
    /// Its arguments.
    pub args: Vec<Value>,
    /// Exports to call first, in order: the module's start function, under the name that the compiler gave it, and a
    /// reactor's `_initialize`.
    pub first: Vec<String>,
    /// Linear memory this run may have, all memories together, 64 KiB pages.
    pub mem_pages_max: u32,
    /// What a WASI guest is given, where the module imports WASI.
    pub wasi: Option<WasiStart>,
}

/// What a WASI guest is given.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WasiStart {
    /// Arguments, the program's name first. With `env` at most [`crate::limits::WASI_STRINGS_BYTES`].
    pub argv: Vec<String>,
    /// Environment, name and value.
    pub env: Vec<(String, String)>,
    /// Length of stdin, which follows in parts.
    pub stdin_bytes: u32,
    /// What the guest's random numbers are made of: the run process cannot ask the kernel.
    pub seed: [u8; 32],
}

/// From a run process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FromRun {
    /// Locked down, waiting for `Start`.
    Ready,
    /// A gateway call. Nothing else may be said until it is answered.
    Call {
        /// What the guest asks for.
        call: Call,
        /// Peak linear memory so far, 64 KiB pages: all that is known of it where the run is killed.
        mem_pages: u32,
    },
    /// Bytes that the guest wrote, at most [`crate::limits::PART_BYTES`]. Not answered.
    Output {
        /// Where to.
        stream: Stream,
        /// What.
        bytes: Vec<u8>,
    },
    /// The end of the run, as the worker claims it.
    Done(RunEnd),
}

/// Where a WASI guest writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a guest asks the supervisor for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Call {
    /// `emit(event, data)`.
    Emit {
        /// The event's name.
        event: String,
        /// Its data.
        data: Vec<u8>,
    },
    /// `http.fetch(request)`.
    Fetch(Fetch),
    /// `kv.get(key)`.
    KvGet(Key),
    /// `kv.set(key, value)`.
    KvSet {
        /// Where to.
        key: Key,
        /// What.
        value: Vec<u8>,
    },
    /// `kv.delete(key)`.
    KvDelete(Key),
    /// One of the above, of which a part cannot be sent as it is. It is a gateway call like them, and always refused.
    Unfit(Unfit),
    /// Wait. Not a gateway call in the API's sense: it is neither counted nor judged, and is cut off by the wall budget.
    Sleep {
        /// For how long.
        nanoseconds: u64,
    },
}

/// What of a call cannot be sent, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Unfit {
    /// Which part, and thereby of which call.
    pub part: CallPart,
    /// What is wrong with it.
    pub misfit: Misfit,
}

/// A part of a call that can be unfit for the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum CallPart {
    /// The name of `emit`.
    EventName,
    /// The data of `emit`.
    EventData,
    /// The namespace of a key.
    Namespace(KeyCall),
    /// The key itself.
    Key(KeyCall),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum KeyCall {
    /// `kv.get`.
    Get,
    /// `kv.set`.
    Set,
    /// `kv.delete`.
    Delete,
}

/// Why a part of a call cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Misfit {
    /// It is larger than [`crate::limits`] has it.
    TooLarge {
        /// What it has: bytes, or lines.
        size: u32,
    },
    /// It is not UTF-8, or no lines of `name: value`.
    Invalid,
}

/// A key in a namespace; the empty namespace is the tenant's unnamed one.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The key.
    pub key: String,
}

/// A request that a guest wants made.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Fetch {
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// Header fields, in order.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Vec<u8>,
}

/// A header field.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

/// The answer to a gateway call.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// Done: `emit`, `kv.set`, a sleep that is over.
    Done,
    /// `kv.get`: the value, if there is one.
    Value(Option<Vec<u8>>),
    /// `kv.delete`: whether there was something to delete.
    Deleted(bool),
    /// `http.fetch`: the answer; its body follows in parts.
    Fetched {
        /// Status code.
        status: u16,
        /// Header fields.
        headers: Vec<Header>,
        /// Length of the body.
        body_bytes: u32,
    },
    /// Not done.
    Refused(Refusal),
}

/// Why a gateway call was not done, as far as the guest may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Refusal {
    /// Policy does not allow it.
    Denied,
    /// Too many in too short a time; later it may be allowed.
    RateLimited,
    /// What was sent or would be answered is larger than allowed.
    TooLarge,
    /// A name, URL, method or header that is none.
    Invalid,
    /// The namespace has as many keys as it may.
    Full,
    /// The time ran out.
    TimedOut,
    /// The host could not be reached, or broke off.
    Unreachable,
    /// The service cannot do it now.
    Unavailable,
}

/// The end of a run, as the worker claims it. The supervisor concludes the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RunEnd {
    /// What happened.
    pub claim: Claim,
    /// Peak linear memory, 64 KiB pages, all memories together.
    pub mem_pages: u32,
    /// A growth beyond the limit was refused during the run.
    pub growth_refused: bool,
}

/// What happened, as the worker claims it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Claim {
    /// The function returned.
    Returned(Vec<Value>),
    /// The guest asked for its end (WASI `proc_exit`).
    Exited(u32),
    /// The guest trapped.
    Trapped(Trap),
    /// The module is larger at the start than this run may have, 64 KiB pages.
    TooLarge {
        /// What it has at the start.
        pages: u32,
    },
    /// There is no such exported function.
    NoSuchExport,
    /// The arguments are not of the function's types.
    TypeMismatch,
}

/// A trap.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Trap {
    /// The stack was exhausted.
    pub stack: bool,
    /// One line: what trapped.
    pub message: String,
    /// Guest functions, innermost first, one line each.
    pub backtrace: Vec<String>,
}
