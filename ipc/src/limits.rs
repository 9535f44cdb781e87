//! Every maximum of the wire. A length is held against these before anything is allocated for it.

/// A whole frame, header included, in bytes. Also the size of every receive buffer.
///
/// Fits the largest legal message (stdout and stderr of a run, 64 KiB each) and stays below the
/// kernel's default socket buffer (212,992), so that a frame is always one packet.
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

/// Parameters of a described function type, and results of one.
pub const TYPES: usize = 64;

/// Run processes of one zygote that may exist at once: spares, running, and not yet reaped.
pub const SLOTS: usize = 64;

/// Run processes that one order to a zygote may ask for.
pub const FORKS: usize = 8;
