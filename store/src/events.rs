//! Events as they are stored and as they are read. Data of a run's own events is made from its record here.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use void_api::{RunId, Timestamp};

/// The type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A run was accepted and is going to execute.
    Started,
    /// A run ended as it should.
    Finished,
    /// A run ended otherwise, or was cancelled.
    Error,
    /// A guest said something.
    GuestEmit,
}

impl EventKind {
    /// The CloudEvent's `type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "wasm.exec.started",
            Self::Finished => "wasm.exec.finished",
            Self::Error => "wasm.exec.error",
            Self::GuestEmit => "wasm.guest.emit",
        }
    }

    /// The inverse of [`EventKind::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Started, Self::Finished, Self::Error, Self::GuestEmit]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// What a row says. The two pairs stand for two events with adjacent numbers: the row has the number of the second. It is the
/// run's own row; in version 1 of the schema it was one of the table of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub(crate) enum RowKind {
    Started = 0,
    Finished = 1,
    Error = 2,
    GuestEmit = 3,
    StartedFinished = 4,
    StartedError = 5,
}

impl RowKind {
    pub(crate) const fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            0 => Self::Started,
            1 => Self::Finished,
            2 => Self::Error,
            3 => Self::GuestEmit,
            4 => Self::StartedFinished,
            5 => Self::StartedError,
            _ => return None,
        })
    }

    /// The events of the row, with how far each one's number lies below the row's.
    pub(crate) const fn events(self) -> &'static [(u64, EventKind)] {
        match self {
            Self::Started => &[(0, EventKind::Started)],
            Self::Finished => &[(0, EventKind::Finished)],
            Self::Error => &[(0, EventKind::Error)],
            Self::GuestEmit => &[(0, EventKind::GuestEmit)],
            Self::StartedFinished => &[(1, EventKind::Started), (0, EventKind::Finished)],
            Self::StartedError => &[(1, EventKind::Started), (0, EventKind::Error)],
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number; numbers rise in the order of the events and are never used twice, across restarts too.
    pub seq: u64,
    /// Unix time in milliseconds.
    pub at: u64,
    /// Its type.
    pub kind: EventKind,
    /// The run's tenant.
    pub tenant: Box<str>,
    /// `/void-wasm/<node>`, of the node that wrote it.
    pub source: Box<str>,
    /// The run.
    pub run_id: RunId,
    /// JSON.
    pub data: Bytes,
}

impl Event {
    /// The event as CloudEvents 1.0 structured JSON, in one line. The id is the number, which is unique for the source.
    ///
    /// # Errors
    /// The data is not JSON.
    pub fn cloud_event(&self) -> Result<Vec<u8>, serde_json::Error> {
        #[derive(Serialize)]
        struct CloudEvent<'a> {
            specversion: &'static str,
            id: String,
            source: &'a str,
            r#type: &'static str,
            subject: RunId,
            time: Timestamp,
            datacontenttype: &'static str,
            data: &'a RawValue,
        }
        serde_json::to_vec(&CloudEvent {
            specversion: "1.0",
            id: self.seq.to_string(),
            source: &self.source,
            r#type: self.kind.name(),
            subject: self.run_id,
            time: Timestamp(self.at),
            datacontenttype: "application/json",
            data: serde_json::from_slice(&self.data)?,
        })
    }
}

/// What a run's own events tell of its record.
#[derive(Deserialize, Serialize)]
struct Facts<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    target: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    entry: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    labels: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    mode: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    status: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    usage: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    reason: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    denials: Option<&'a RawValue>,
}

/// The data of a run's own event. A `started` says nothing of how the run ended, also when it has ended by now.
pub(crate) fn data_from_record(kind: EventKind, record: &[u8]) -> Result<Bytes, serde_json::Error> {
    let mut facts: Facts<'_> = serde_json::from_slice(record)?;
    if kind == EventKind::Started {
        (facts.status, facts.usage, facts.reason, facts.denials) = (None, None, None, None);
    }
    serde_json::to_vec(&facts).map(Bytes::from)
}

/// When the run of a record was accepted. Its id tells that too, unless a clock was ahead when it was given out.
pub(crate) fn created_at(record: &[u8]) -> Result<u64, serde_json::Error> {
    #[derive(Deserialize)]
    struct Created {
        created_at: Timestamp,
    }
    serde_json::from_slice::<Created>(record).map(|record| record.created_at.0)
}
