//! What must survive the process: runs, idempotency keys, events and guests' values, in one SQLite database.
//!
//! One thread writes, and commits in groups: a caller [submits](Store::submit) a [`Batch`] of [`Change`]s and awaits its
//! [`Commit`], which resolves when the group is in the database. What happened and the event that says so are written in
//! the same transaction. Readers have connections of their own and never wait for the writer. A caller with one batch
//! [alone](Store::submit_alone) takes the committer from the queue and writes it by itself.
//!
//! ```text
//!  lanes ──submit──► queue ──group──► writer ─┐
//!    ▲      │                                 ├► committer ──WAL──► void.db ◄── readers ◄──get, list, events_after, kv_get
//!    │      └──alone──────────────────────────┘  │  │
//!    └────────── Commit ─────────────────────────┘  └──► watch: the newest number
//! ```
//!
//! Must not enter: HTTP, policy, decisions about runs, a tokio runtime (its futures are awaited on any).
#![forbid(unsafe_code)]

mod apply;
mod bloom;
mod change;
mod checkpoint;
mod clock;
mod codes;
mod committer;
mod error;
mod events;
mod keys;
mod list;
mod open;
mod pool;
mod queue;
mod reader;
mod recovery;
mod retention;
mod schema;
mod store;
mod values;
mod writer;

pub use change::{Accept, Batch, Change, Emit, KvKey, KvLimits, RunRow};
pub use error::{ReadError, StoreError, WriteError};
pub use events::{Event, EventKind};
pub use keys::{Fingerprint, KEY_LIFETIME_MS, Reservation, Reserve};
pub use list::{LIST_LIMIT, ListFilter, RunPage};
pub use queue::{Commit, Committed, Expected};
pub use reader::{EventFilter, EventPage, Reader, StoredRun};
pub use recovery::{Pending, Recovery};
pub use store::{Store, StoreConfig, StoreStats};
