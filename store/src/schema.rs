//! The tables, their versions, and how a connection is set up. No queries of the service.
//!
//! Layout, with the reason for each choice:
//! - Runs and events are numbered in one sequence, the order in which they were written. It grows even when the clock jumps
//!   back, and no number is used twice, because the newest row is never deleted. A run shares the number of its first
//!   event, so that ranges of numbers are ranges of rows in both tables.
//! - A run that begins and ends in one commit, as most do under load, has no rows in `events`: both of its events stand in
//!   its own row, which is then numbered as the second of them and has a `source`. A page less in a commit spares a short
//!   run a few percent.
//! - `runs.ordinal` counts runs, for keeping them by number. Rows of version 1 have none: there `seq` was that count.
//! - `runs_id` finds a run, lists a tenant's runs (ids rise: see `list.rs`), and covers every filter of a list but labels,
//!   so that looking for the few errors among a million finished runs reads 30 bytes a run and not the run. It is one index
//!   for both because each costs a page a commit. That no id comes twice is looked after by `apply.rs`.
//! - `runs_open` holds only what has not ended: recovery does not depend on how much history there is.
//! - None of a run's events lies below `runs.first_event`, which rises with `seq`, so the oldest run tells which events may
//!   go.
//! - `pending` is what executing an accepted run takes; the row goes when the run starts.
//! - `events` holds no copy of what the run's record says. Data of a run's own events is made from the record when they
//!   are read; only what guests emit is kept in `body`. Version 1 had rows that stand for two events (see `events.rs`).
//! - Tenants and sources are small numbers, because they stand in every row.

use rusqlite::Connection;

/// The newest schema known here.
pub(crate) const VERSION: u32 = MIGRATIONS.len() as u32;

/// "void" in ASCII, in the file's header: tells our file from another program's.
pub(crate) const APPLICATION_ID: i32 = 0x766f_6964;

/// Element `n` leads from version `n` to `n + 1`.
pub(crate) const MIGRATIONS: &[&str] = &[V1, V2];

const V1: &str = "
CREATE TABLE tenants (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE sources (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE runs (
    seq         INTEGER PRIMARY KEY,
    run_id      BLOB NOT NULL,
    tenant      INTEGER NOT NULL,
    status      INTEGER NOT NULL,
    mode        INTEGER NOT NULL,
    labels      INTEGER NOT NULL,
    started_at  INTEGER,
    ended_at    INTEGER,
    first_event INTEGER NOT NULL,
    last_event  INTEGER,
    record      BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX runs_id ON runs (run_id);
CREATE INDEX runs_list ON runs (tenant, seq, status, mode);
CREATE INDEX runs_open ON runs (seq) WHERE status < 2;

CREATE TABLE pending (run INTEGER PRIMARY KEY, request BLOB NOT NULL, policy BLOB NOT NULL) STRICT;

CREATE TABLE labels (
    tenant INTEGER NOT NULL,
    label  TEXT NOT NULL,
    run    INTEGER NOT NULL,
    PRIMARY KEY (tenant, label, run)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    seq    INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    kind   INTEGER NOT NULL,
    tenant INTEGER NOT NULL,
    source INTEGER NOT NULL,
    run    INTEGER NOT NULL,
    body   BLOB
) STRICT;

CREATE TABLE keys (
    id          INTEGER PRIMARY KEY,
    tenant      INTEGER NOT NULL,
    key         TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    run_id      BLOB NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX keys_key ON keys (tenant, key);

CREATE TABLE kv_spaces (
    id     INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL,
    name   TEXT NOT NULL,
    keys   INTEGER NOT NULL,
    UNIQUE (tenant, name)
) STRICT;
CREATE TABLE kv (
    space INTEGER NOT NULL,
    key   BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (space, key)
) STRICT, WITHOUT ROWID;
";

const V2: &str = "
ALTER TABLE runs ADD COLUMN ordinal INTEGER;
ALTER TABLE runs ADD COLUMN source INTEGER;
DROP INDEX runs_id;
DROP INDEX runs_list;
CREATE INDEX runs_id ON runs (tenant, run_id, status, mode);

CREATE TABLE labels_by_id (
    tenant INTEGER NOT NULL,
    label  TEXT NOT NULL,
    run_id BLOB NOT NULL,
    PRIMARY KEY (tenant, label, run_id)
) STRICT, WITHOUT ROWID;
INSERT INTO labels_by_id SELECT l.tenant, l.label, r.run_id FROM labels l JOIN runs r ON r.seq = l.run;
DROP TABLE labels;
ALTER TABLE labels_by_id RENAME TO labels;
";

/// How long a statement waits for a lock of another process before it gives up.
pub(crate) const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// The size of a page of new databases, in bytes. A commit of one run changes two pages, whatever their size, and more where a
/// leaf is full (2.8 on average). Each is summed and written to the log: half of SQLite's usual size halves what the disk gets,
/// and spares a few microseconds.
pub(crate) const PAGE_BYTES: u32 = 2_048;

/// Pages of the WAL (32 MiB, of the size above) after which it is copied into the database, away from the writer.
pub(crate) const CHECKPOINT_PAGES: u32 = 16_384;

/// Sets up the connection that writes.
pub(crate) fn prepare_writer(conn: &Connection, full_durability: bool) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    // The WAL is copied by its own thread: see `checkpoint.rs`.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "synchronous", if full_durability { "FULL" } else { "NORMAL" })?;
    conn.pragma_update(None, "cache_size", -32_768)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    // Keeps a WAL that once grew from keeping its disk space for ever.
    conn.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    conn.pragma_update(None, "foreign_keys", false)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Sets up a connection that only reads.
pub(crate) fn prepare_reader(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.pragma_update(None, "query_only", true)?;
    conn.pragma_update(None, "cache_size", -8_192)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Brings a database to the newest version, each step in its own transaction.
pub(crate) fn migrate(conn: &mut Connection, from: u32) -> rusqlite::Result<()> {
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(from as usize) {
        let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", index as u32 + 1)?;
        tx.commit()?;
    }
    Ok(())
}
