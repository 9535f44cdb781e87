//! What can be written: changes, and batches of them that hold or fail together. No SQL.

use std::sync::Arc;

use bytes::Bytes;
use void_api::{Mode, RunId, RunRecord, Status};

use crate::keys::Reservation;

/// One run as it goes to the disk: the record as JSON, made once on the caller's thread, and what lists filter by.
#[derive(Debug, Clone)]
pub struct RunRow {
    pub(crate) tenant: Arc<str>,
    pub(crate) run_id: RunId,
    pub(crate) status: Status,
    pub(crate) mode: Mode,
    pub(crate) created_at: u64,
    pub(crate) started_at: Option<u64>,
    pub(crate) ended_at: Option<u64>,
    /// `key=value`, see [`label_text`].
    pub(crate) labels: Vec<String>,
    pub(crate) json: Bytes,
}

impl RunRow {
    /// Renders the record; [`RunRow::json`] is then the very body that `GET /v1/runs/{run_id}` answers with.
    ///
    /// # Errors
    /// The record does not serialise.
    pub fn new(tenant: &Arc<str>, record: &RunRecord) -> Result<Self, serde_json::Error> {
        let json = Bytes::from(serde_json::to_vec(record)?);
        Ok(Self {
            tenant: Arc::clone(tenant),
            run_id: record.run_id,
            status: record.status,
            mode: record.mode,
            created_at: record.created_at.0,
            started_at: record.started_at.map(|time| time.0),
            ended_at: record.finished_at.map(|time| time.0),
            labels: record.labels.iter().map(|(key, value)| label_text(key, value)).collect(),
            json,
        })
    }

    /// The record as JSON; cloning it is free.
    #[must_use]
    pub fn json(&self) -> Bytes {
        self.json.clone()
    }

    /// The run's id.
    #[must_use]
    pub const fn run_id(&self) -> RunId {
        self.run_id
    }
}

/// How a label stands in the index. The key's length comes first, so that no two pairs meet in one text.
pub(crate) fn label_text(key: &str, value: &str) -> String {
    format!("{}:{key}={value}", key.len())
}

/// A new run. What is stored follows from the record's status:
///
/// | status | stored | events |
/// |---|---|---|
/// | `accepted` | record, request and policy, for execution now or after a restart | `started`, unless `dry-run` |
/// | `running` | record; after a crash it ends `interrupted` | `started`, unless `dry-run` |
/// | `finished`, `error`, `cancelled` | the final record, in one step | `started` unless `dry-run`, `emits`, and the terminal event |
/// | `frozen` | record, never executed | none |
#[derive(Debug)]
pub struct Accept {
    /// The run.
    pub run: RunRow,
    /// Opaque to the store: what the caller needs to execute the run after a restart. Kept until the run starts.
    pub request: Bytes,
    /// Opaque to the store: the policy in force at acceptance. Kept until the run starts.
    pub policy: Bytes,
    /// The idempotency key that [`crate::Store::reserve`] gave for this run.
    pub key: Option<Reservation>,
    /// What the guest emitted, in order; only with a final status (else use [`Change::Emit`]).
    pub emits: Vec<Emit>,
}

impl Accept {
    /// A run without key, request or emitted events: what a run needs that is stored when it has ended.
    #[must_use]
    pub const fn ended(run: RunRow) -> Self {
        Self { run, request: Bytes::new(), policy: Bytes::new(), key: None, emits: Vec::new() }
    }

    /// A run that begins with its acceptance: as [`Accept::ended`], with the record of a run that is `running`.
    #[must_use]
    pub const fn begun(run: RunRow) -> Self {
        Self::ended(run)
    }

    /// A run to execute.
    #[must_use]
    pub const fn queued(run: RunRow, request: Bytes, policy: Bytes, key: Option<Reservation>) -> Self {
        Self { run, request, policy, key, emits: Vec::new() }
    }
}

/// What a guest emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emit {
    /// Unix time in milliseconds.
    pub at: u64,
    /// The CloudEvent's `data`, as JSON text that the caller has checked.
    pub data: Bytes,
}

/// Which value in which namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KvKey {
    /// The tenant.
    pub tenant: Arc<str>,
    /// The namespace inside the tenant; the default one has its own name too, chosen by the caller.
    pub space: String,
    /// 1 to 256 bytes.
    pub key: Vec<u8>,
}

/// The limits in force for one write of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvLimits {
    /// Keys in the namespace; overwriting is always allowed.
    pub max_keys: u32,
    /// Bytes of the value.
    pub max_value_bytes: usize,
}

/// One change.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change {
    /// A new run.
    Accept(Box<Accept>),
    /// An accepted run begins: from here on it is never executed again. Wait for the commit before the guest starts.
    Started {
        /// The run's tenant.
        tenant: Arc<str>,
        /// The run.
        run_id: RunId,
        /// Unix time in milliseconds.
        at: u64,
    },
    /// A run whose beginning is stored has not begun and will not for now: it is accepted again, to be executed now or after
    /// a restart. What is stored is as for a run that is [queued](Accept::queued); it has no second event of its start.
    HeldBack(Box<Accept>),
    /// A run that was accepted before has ended, with its final record.
    Ended(Box<RunRow>),
    /// A guest's event of a run that has not ended.
    Emit {
        /// The run's tenant.
        tenant: Arc<str>,
        /// The run.
        run_id: RunId,
        /// The event.
        emit: Emit,
    },
    /// Writes a value.
    KvSet {
        /// Where.
        key: KvKey,
        /// What.
        value: Bytes,
        /// The limits in force.
        limits: KvLimits,
    },
    /// Removes a value; one that is not there is no error.
    KvDelete {
        /// Where.
        key: KvKey,
    },
}

/// Changes that are committed together or not at all, in this order.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) changes: Vec<Change>,
    pub(crate) until_committed: bool,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self { changes: Vec::new(), until_committed: false }
    }

    /// What the guest of a run emitted, in order.
    #[must_use]
    pub fn emits(tenant: &Arc<str>, run_id: RunId, emits: Vec<Emit>) -> Self {
        let change = |emit| Change::Emit { tenant: Arc::clone(tenant), run_id, emit };
        Self { changes: emits.into_iter().map(change).collect(), until_committed: false }
    }

    /// Adds a change.
    #[must_use]
    pub fn with(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// Keeps the batch through failures of the storage (disk full, locked, read-only) and repeats it until it is
    /// committed; its future then ends only with the commit, a refusal, or the store's end. Meant for the end of a run,
    /// which must not be lost and whose number is bounded by the runs under way. Such a batch is never refused as
    /// backlog.
    #[must_use]
    pub const fn until_committed(mut self) -> Self {
        self.until_committed = true;
        self
    }

    /// Roughly the bytes that wait in memory with this batch.
    pub(crate) fn weight(&self) -> usize {
        self.changes.iter().map(Change::weight).sum()
    }
}

impl From<Change> for Batch {
    fn from(change: Change) -> Self {
        Self { changes: vec![change], until_committed: false }
    }
}

impl From<Accept> for Batch {
    fn from(accept: Accept) -> Self {
        Change::Accept(Box::new(accept)).into()
    }
}

impl Change {
    fn weight(&self) -> usize {
        const FIXED: usize = 256;
        FIXED
            + match self {
                Self::Accept(accept) | Self::HeldBack(accept) => {
                    accept.run.json.len()
                        + accept.request.len()
                        + accept.policy.len()
                        + accept.emits.iter().map(|emit| emit.data.len() + FIXED).sum::<usize>()
                }
                Self::Ended(run) => run.json.len(),
                Self::Emit { emit, .. } => emit.data.len(),
                Self::KvSet { key, value, .. } => key.key.len() + value.len(),
                Self::Started { .. } | Self::KvDelete { .. } => 0,
            }
    }
}
