//! The numbers that stand for words in the tables. They are part of the file format: never renumber one.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};
use void_api::{Mode, RunId, Status};

/// Below this number a run has not ended; the schema's partial index says the same.
pub(crate) const FIRST_TERMINAL: i64 = 2;
const _: () =
    assert!(status_code(Status::Running) < FIRST_TERMINAL && status_code(Status::Finished) == FIRST_TERMINAL);

pub(crate) const fn status_code(status: Status) -> i64 {
    match status {
        Status::Accepted => 0,
        Status::Running => 1,
        Status::Finished => 2,
        Status::Error => 3,
        Status::Cancelled => 4,
        Status::Frozen => 5,
    }
}

pub(crate) const fn mode_code(mode: Mode) -> i64 {
    match mode {
        Mode::Live => 0,
        Mode::Canary => 1,
        Mode::DryRun => 2,
        Mode::Frozen => 3,
        Mode::Cached => 4,
    }
}

pub(crate) const fn status_of(code: i64) -> Option<Status> {
    Some(match code {
        0 => Status::Accepted,
        1 => Status::Running,
        2 => Status::Finished,
        3 => Status::Error,
        4 => Status::Cancelled,
        5 => Status::Frozen,
        _ => return None,
    })
}

pub(crate) const fn mode_of(code: i64) -> Option<Mode> {
    Some(match code {
        0 => Mode::Live,
        1 => Mode::Canary,
        2 => Mode::DryRun,
        3 => Mode::Frozen,
        4 => Mode::Cached,
        _ => return None,
    })
}

/// A run's id as 16 bytes, most significant first, so that the index is in the order of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdBytes([u8; 16]);

impl From<RunId> for IdBytes {
    fn from(run_id: RunId) -> Self {
        Self(run_id.as_u128().to_be_bytes())
    }
}

impl ToSql for IdBytes {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

impl FromSql for IdBytes {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| FromSqlError::InvalidBlobSize { expected_size: 16, blob_size: bytes.len() })
    }
}

impl From<IdBytes> for Value {
    fn from(id: IdBytes) -> Self {
        Self::Blob(id.0.to_vec())
    }
}

impl IdBytes {
    pub(crate) const fn run_id(self) -> RunId {
        RunId::from_u128(u128::from_be_bytes(self.0))
    }
}

macro_rules! coded {
    ($name:ident, $of:ident, $word:ty) => {
        /// A word read from its number.
        pub(crate) struct $name(pub(crate) $word);
        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let code = value.as_i64()?;
                $of(code).map(Self).ok_or(FromSqlError::OutOfRange(code))
            }
        }
    };
}

coded!(CodedStatus, status_of, Status);
coded!(CodedMode, mode_of, Mode);

/// SQLite's integers are signed; our times and numbers stay far below 2^63.
pub(crate) const fn int(number: u64) -> i64 {
    if number > i64::MAX as u64 { i64::MAX } else { number as i64 }
}

/// The inverse of [`int`].
pub(crate) const fn uint(number: i64) -> u64 {
    if number < 0 { 0 } else { number as u64 }
}
