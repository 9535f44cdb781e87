//! What can go wrong, in three types: opening, writing, reading. Each message says what to do.
//! The classification of SQLite's codes happens here and nowhere else.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;
use void_api::RunId;

/// Why the store could not be opened. Nothing on disk was changed by a refusal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds the directory.
    #[error(
        "the state directory {} is in use by another supervisor: stop it, or set WASM_STATE_DIR to another directory",
        dir.display()
    )]
    InUse {
        /// The state directory.
        dir: PathBuf,
    },
    /// The directory cannot be made, read or written.
    #[error("the state directory {} cannot be used: {source}: make it writable for this user, or set WASM_STATE_DIR", dir.display())]
    Directory {
        /// The state directory.
        dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is not a sound database.
    #[error(
        "the database {} is damaged ({detail}): it was left as it is; restore it from a copy, or move it away to begin anew",
        path.display()
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file is a sound database of some other program.
    #[error("the file {} is a database of another program: it was left as it is; set WASM_STATE_DIR to another directory", path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// A later release wrote the file.
    #[error(
        "the database {} has schema version {found} and this program knows up to {known}: start the newer release, or restore an older copy",
        path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Version found in the file.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
    /// Another process holds a lock on the database file.
    #[error("the database {} is locked by another process: end that process and start again", path.display())]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// The disk, or a quota, is full.
    #[error("there is no room to write {}: free space on its disk and start again", path.display())]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// A thread could not be started.
    #[error("a thread of the store could not be started: {0}: raise the limit on threads")]
    Thread(io::Error),
    /// Anything else that SQLite reports.
    #[error("the database {} cannot be opened: {detail}", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },
}

/// Why a batch was not committed. None of the batch was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The disk, a quota, or the database's page limit is full.
    #[error("the state directory's disk is full: free space, then try again")]
    Full,
    /// The file system refuses writes.
    #[error("the state directory is read-only: make it writable, then try again")]
    ReadOnly,
    /// Another process kept the database locked for longer than the store waits.
    #[error("another process keeps the database locked: end it, then try again")]
    Locked,
    /// SQLite found the file damaged.
    #[error("the database is damaged: stop the service and restore the state directory from a copy")]
    Damaged,
    /// Reading or writing the file failed.
    #[error("the database could not be written ({0}): look at the disk, then try again")]
    Io(String),
    /// More is waiting than the writer may hold.
    #[error("the store has too much waiting to be written: try again in a moment")]
    Backlog,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// SQLite refused the change for a reason that repeating does not cure.
    #[error("the change was refused by the database: {0}")]
    Refused(String),
    /// A run with this id is stored already.
    #[error("a run with the id {0} exists already")]
    DuplicateRun(RunId),
    /// No such run.
    #[error("there is no run {0}")]
    UnknownRun(RunId),
    /// The run has ended; it ends once only.
    #[error("the run {0} has ended already")]
    AlreadyEnded(RunId),
    /// The run has been started; it starts once only.
    #[error("the run {0} has been started already")]
    AlreadyStarted(RunId),
    /// The idempotency key belongs to an earlier run.
    #[error("the idempotency key belongs to the run {0}")]
    KeyTaken(RunId),
    /// The namespace holds as many keys as it may.
    #[error("the namespace holds {0} keys, as many as WASM_KV_MAX_KEYS allows: delete one, or overwrite")]
    KvKeys(u32),
    /// The tenant has as many namespaces as it may.
    #[error("the tenant has keys in {0} namespaces, as many as there may be: delete all keys of one first")]
    KvSpaces(u32),
    /// The value is longer than it may be.
    #[error("the value has {size} bytes and WASM_KV_MAX_VALUE_BYTES allows {max}")]
    KvValue {
        /// Bytes given.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The key is longer than it may be, or empty.
    #[error("a key has 1 to 256 bytes, and this one has {0}")]
    KvKey(usize),
}

/// Why a read gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The cursor is none that a list gave out.
    #[error("the cursor is not one that this list gave out: leave it away to begin at the newest run")]
    Cursor,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// SQLite found the file damaged.
    #[error("the database is damaged: stop the service and restore the state directory from a copy")]
    Damaged,
    /// Anything else.
    #[error("the database could not be read: {0}")]
    Failed(String),
}

/// SQLite's codes, sorted by what can be done about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Full,
    ReadOnly,
    Locked,
    Damaged,
    Io,
    /// The fault of this change, not of the storage.
    Change,
}

pub(crate) fn classify(error: &rusqlite::Error) -> Class {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Class::Full,
        Some(ErrorCode::ReadOnly) => Class::ReadOnly,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Class::Locked,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Class::Damaged,
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory
            | ErrorCode::FileLockingProtocolFailed,
        ) => Class::Io,
        _ => Class::Change,
    }
}

impl WriteError {
    pub(crate) fn from_sqlite(error: &rusqlite::Error) -> Self {
        match classify(error) {
            Class::Full => Self::Full,
            Class::ReadOnly => Self::ReadOnly,
            Class::Locked => Self::Locked,
            Class::Damaged => Self::Damaged,
            Class::Io => Self::Io(error.to_string()),
            Class::Change => Self::Refused(error.to_string()),
        }
    }

    /// Whether the storage failed, so that the same batch may well succeed later.
    #[must_use]
    pub fn is_storage(&self) -> bool {
        matches!(self, Self::Full | Self::ReadOnly | Self::Locked | Self::Damaged | Self::Io(_))
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        match classify(&error) {
            Class::Damaged => Self::Damaged,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl StoreError {
    pub(crate) fn from_sqlite(path: &std::path::Path, error: &rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        match classify(error) {
            Class::Full => Self::Full { path },
            Class::Locked => Self::Locked { path },
            Class::Damaged => Self::Damaged { path, detail: error.to_string() },
            Class::ReadOnly => Self::Directory {
                dir: path.parent().map(PathBuf::from).unwrap_or_default(),
                source: io::Error::from(io::ErrorKind::ReadOnlyFilesystem),
            },
            Class::Io | Class::Change => Self::Open { path, detail: error.to_string() },
        }
    }
}
