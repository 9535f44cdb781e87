//! The greatest sizes that the API accepts. All of them are checked before a request is kept.

/// Bytes of the body of `POST /v1/exec`.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;
/// Seconds that `Prefer: wait=N` and `?wait=N` may ask for; more is cut to this.
pub const WAIT_MAX_SECONDS: u32 = 60;
/// Characters of an idempotency key.
pub const IDEMPOTENCY_KEY_MAX_CHARS: usize = 255;
/// Labels of one run.
pub const LABELS_MAX: usize = 64;
/// Bytes of a label's key.
pub const LABEL_KEY_MAX_BYTES: usize = 64;
/// Bytes of a label's value.
pub const LABEL_VALUE_MAX_BYTES: usize = 256;
/// Arguments of one call, and types of one declared list.
pub const ARGS_MAX: usize = 64;
/// Items of `argv`.
pub const ARGV_MAX: usize = 256;
/// Variables of `env`.
pub const ENV_MAX: usize = 256;
/// Bytes of `argv` and `env` together, as WASI passes them: each item and each `name=value` with a NUL behind it.
pub const ARGV_ENV_MAX_BYTES: usize = 128 * 1024;
/// Bytes of `entry`, and so of an export's name.
pub const ENTRY_MAX_BYTES: usize = 1024;
/// Bytes of a CID's text.
pub const CID_MAX_BYTES: usize = 256;
