//! The words of the HTTP API as types: what a client sends, what it is answered, and how both look as JSON.
//!
//! Holds parsing, printing and the refusals that need nothing but the request itself. Must not enter: I/O, a clock,
//! randomness (both are passed in), decisions of policy, and anything that knows how a guest is run.
//!
//! Every function here meets bytes from outside: none panics, and no refusal repeats more of its input than [`clip`]
//! lets through.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod accepted;
mod clip;
mod entry;
mod gateway;
mod json;
pub mod limits;
mod mode;
mod module_info;
mod problem;
mod reason;
mod record;
mod request;
mod run_id;
#[cfg(feature = "schema")]
mod schema;
mod status;
mod target;
mod timestamp;
mod value;
mod words;

pub use accepted::Accepted;
pub use clip::{Clip, clip};
pub use entry::{Entry, EntryError, Mismatch, Signature};
pub use gateway::{CallKind, Decision, DenialNote};
pub use mode::Mode;
pub use module_info::{Export, ExternKind, Import, Kind, Memory, ModuleInfo};
pub use problem::{PROBLEM_JSON, Problem, ProblemCode};
pub use reason::Reason;
pub use record::{RunList, RunRecord, Usage, dry_run_result};
pub use request::{ArgsError, ExecRequest, one_idempotency_key};
pub use run_id::{RunId, RunIdError};
pub use status::Status;
pub use target::{CidText, Codec, Target, TargetError};
pub use timestamp::{Timestamp, TimestampError};
pub use value::{TypeError, TypeName, ValType, Value, ValueError, results_json};
pub use words::UnknownWord;
