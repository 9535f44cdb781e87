//! Every maximum of the wire. A length is held against these before anything is allocated for it.

/// A whole frame, header included, in bytes. Also the size of every receive buffer.
///
/// Fits the largest legal message (arguments and environment, a value, a request's body: 128 KiB) and stays below
/// the kernel's default socket buffer (212,992), so that a frame is always one packet.
pub const FRAME_BYTES: usize = 192 * 1024;

/// Bytes before the body of a frame: length (4, little-endian) and version (1).
pub const HEADER_BYTES: usize = 5;

/// The version of the wire. Both sides are built together: another version is an error, not a dialect.
pub const VERSION: u8 = 1;

/// Arguments of a call, and results of one.
pub const VALUES: usize = 64;

/// Frames of a trap's backtrace that are reported; the rest is cut.
pub const BACKTRACE_FRAMES: usize = 32;

/// A name (export, function, import) inside a message, in bytes; longer ones are cut or refused.
pub const NAME_BYTES: usize = 1024;

/// A sentence that a worker offers as an explanation, in bytes.
pub const DETAIL_BYTES: usize = 2048;

/// Exports or imports of a module that its description lists, each; a module with more is refused.
pub const EXTERNS: usize = 10_000;

/// Memories of a module; one with more is no valid module.
pub const MEMORIES: usize = 100;

/// Parameters of a described function type, and results of one.
pub const TYPES: usize = 64;

/// Table elements of a run, all tables together.
pub const TABLE_ELEMENTS: usize = 1_000_000;

/// Run processes of one zygote that may exist at once: spares, running, and not yet reaped.
pub const SLOTS: usize = 64;

/// Run processes that one order to a zygote may ask for.
pub const FORKS: usize = 8;

/// One piece of stdin, of output or of a fetched body, in bytes.
pub const PART_BYTES: usize = 64 * 1024;

/// Arguments and environment of a WASI guest together, in bytes.
pub const WASI_STRINGS_BYTES: usize = 128 * 1024;

/// What a WASI guest reads from its standard input, in bytes.
pub const STDIN_BYTES: usize = 1024 * 1024;

/// An emitted event's name, in bytes. This and what follows bounds what a worker puts into a gateway call, so that any
/// call fits a frame; what of it is allowed is policy's to say.
pub const EVENT_NAME_BYTES: usize = 256;

/// An emitted event's data, in bytes.
pub const EVENT_DATA_BYTES: usize = 64 * 1024;

/// A key, and the name of its namespace, in bytes each.
pub const KEY_BYTES: usize = 256;

/// A value to be kept, in bytes.
pub const VALUE_BYTES: usize = 128 * 1024;

/// A request's method, in bytes.
pub const METHOD_BYTES: usize = 32;

/// A request's URL, in bytes.
pub const URL_BYTES: usize = 8 * 1024;

/// A request's header text, in bytes.
pub const FETCH_HEADERS_BYTES: usize = 16 * 1024;

/// Header fields of a request.
pub const FETCH_HEADERS: usize = 64;

/// A request's body, in bytes.
pub const FETCH_BODY_BYTES: usize = 128 * 1024;
