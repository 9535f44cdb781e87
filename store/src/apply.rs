//! Changes as SQL, on the writer's connection and inside its transaction. Decides nothing about groups or retries.
//!
//! Each change checks before it writes, so that a refusal leaves nothing behind. Statements are prepared once for the
//! connection's life.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Statement, params};
use void_api::{Mode, RunId, Status};

use crate::change::{Accept, Change, Emit, KvKey, KvLimits, RunRow};
use crate::codes::{self, IdBytes, int, uint};
use crate::error::WriteError;
use crate::events::RowKind;

/// Greatest length of a KV key in bytes.
const KV_KEY_MAX: usize = 256;
/// Namespaces of a tenant that hold keys. With a maximum of keys in each, this bounds what guests can keep.
pub(crate) const KV_SPACES_MAX: u32 = 1_000;

/// Why a change was not applied.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The change is not possible now; nothing was written.
    Refused(WriteError),
    /// SQLite failed; the transaction must be rolled back.
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

macro_rules! statements {
    ($($name:ident: $sql:literal,)*) => {
        /// The prepared statements.
        struct Statements<'c> { $($name: Statement<'c>,)* }
        impl<'c> Statements<'c> {
            fn prepare(conn: &'c Connection) -> rusqlite::Result<Self> {
                Ok(Self { $($name: conn.prepare($sql)?,)* })
            }
        }
    };
}

statements! {
    add_run: "INSERT INTO runs (seq, run_id, tenant, status, mode, labels, started_at, ended_at, first_event, last_event, record)
              VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    add_pending: "INSERT INTO pending (run, request, policy) VALUES (?1, ?2, ?3)",
    drop_pending: "DELETE FROM pending WHERE run = ?1",
    add_label: "INSERT INTO labels (tenant, label, run) VALUES (?1, ?2, ?3)",
    add_event: "INSERT INTO events (seq, at, kind, tenant, source, run, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    find_run: "SELECT seq, tenant, status, mode FROM runs WHERE run_id = ?1",
    start_run: "UPDATE runs SET status = ?2, started_at = ?3 WHERE seq = ?1",
    end_run: "UPDATE runs SET status = ?2, started_at = coalesce(?3, started_at), ended_at = ?4,
                  last_event = ?5, record = ?6
              WHERE seq = ?1",
    add_key: "INSERT INTO keys (tenant, key, fingerprint, run_id, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)
              ON CONFLICT (tenant, key) DO UPDATE SET
                  fingerprint = excluded.fingerprint, run_id = excluded.run_id, expires_at = excluded.expires_at
              WHERE expires_at <= ?6",
    find_key: "SELECT run_id FROM keys WHERE tenant = ?1 AND key = ?2",
    find_tenant: "SELECT id FROM tenants WHERE name = ?1",
    add_tenant: "INSERT INTO tenants (name) VALUES (?1)",
    find_space: "SELECT id, keys FROM kv_spaces WHERE tenant = ?1 AND name = ?2",
    count_spaces: "SELECT count(*) FROM kv_spaces WHERE tenant = ?1",
    drop_space: "DELETE FROM kv_spaces WHERE id = ?1",
    add_space: "INSERT INTO kv_spaces (tenant, name, keys) VALUES (?1, ?2, 0)",
    count_space: "UPDATE kv_spaces SET keys = keys + ?2 WHERE id = ?1",
    change_value: "UPDATE kv SET value = ?3 WHERE space = ?1 AND key = ?2",
    add_value: "INSERT INTO kv (space, key, value) VALUES (?1, ?2, ?3)",
    drop_value: "DELETE FROM kv WHERE space = ?1 AND key = ?2",
}

/// The numbers that the next rows get. Set back when a group fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) next_run: u64,
    pub(crate) next_event: u64,
}

impl Counters {
    /// Continues after what is stored. The newest rows are never deleted, so no number is given twice.
    pub(crate) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let after = |table: &str| {
            conn.query_row(&format!("SELECT coalesce(max(seq), 0) + 1 FROM {table}"), [], |row| row.get(0))
                .map(uint)
        };
        Ok(Self { next_run: after("runs")?, next_event: after("events")? })
    }

    /// The newest event's number.
    pub(crate) const fn last_event(&self) -> u64 {
        self.next_event - 1
    }
}

/// Applies changes on one connection.
pub(crate) struct Applier<'c> {
    sql: Statements<'c>,
    source: i64,
    /// Numbers of tenants, among them perhaps some of a transaction that was rolled back: emptied then.
    tenants: HashMap<Arc<str>, i64>,
    pub(crate) counters: Counters,
}

impl<'c> Applier<'c> {
    pub(crate) fn new(conn: &'c Connection, source: i64) -> rusqlite::Result<Self> {
        Ok(Self {
            sql: Statements::prepare(conn)?,
            source,
            tenants: HashMap::new(),
            counters: Counters::load(conn)?,
        })
    }

    /// The transaction was rolled back to where `counters` stood.
    pub(crate) fn rolled_back(&mut self, counters: Counters) {
        self.counters = counters;
        self.tenants.clear();
    }

    /// How many values it removed.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<u32, Fault> {
        match change {
            Change::Accept(accept) => self.accept(accept)?,
            Change::Started { run_id, at } => self.started(*run_id, *at)?,
            Change::Ended(run) => self.ended(run)?,
            Change::Emit { run_id, emit } => self.emit(*run_id, emit)?,
            Change::KvSet { key, value, limits } => self.kv_set(key, value, *limits)?,
            Change::KvDelete { key } => return self.kv_delete(key).map(u32::from),
        }
        Ok(0)
    }

    fn accept(&mut self, accept: &Accept) -> Result<(), Fault> {
        let run = &accept.run;
        let tenant = self.tenant(&run.tenant)?;
        if let Some(key) = &accept.key {
            if key.tenant() != run.tenant.as_ref() || key.run_id() != run.run_id {
                let text =
                    format!("the key was reserved for the run {}, and not for {}", key.run_id(), run.run_id);
                return Err(Fault::Refused(WriteError::Refused(text)));
            }
            self.take_key(tenant, key)?;
        }
        let seq = self.counters.next_run;
        let first_event = self.counters.next_event;
        let last_event = self.birth_events(accept, tenant, seq)?;
        self.sql.add_run.execute(params![
            int(seq),
            IdBytes::from(run.run_id),
            tenant,
            codes::status_code(run.status),
            codes::mode_code(run.mode),
            run.labels.len() as i64,
            run.started_at.map(int),
            run.ended_at.map(int),
            int(first_event),
            last_event.map(int),
            run.json.as_ref(),
        ])?;
        self.counters.next_run += 1;
        for label in &run.labels {
            self.sql.add_label.execute(params![tenant, label, int(seq)])?;
        }
        if run.status == Status::Accepted {
            self.sql.add_pending.execute(params![
                int(seq),
                accept.request.as_ref(),
                accept.policy.as_ref()
            ])?;
        }
        Ok(())
    }

    /// Writes the events of a new run; gives the number of its last one, where it has ended.
    fn birth_events(&mut self, accept: &Accept, tenant: i64, seq: u64) -> Result<Option<u64>, Fault> {
        let run = &accept.run;
        let started = run.mode.executes() && run.status != Status::Frozen;
        let terminal = terminal_kind(run.status);
        if let Some(kind) = terminal
            && started
            && accept.emits.is_empty()
        {
            self.counters.next_event += 1;
            return self.add_event(ended_at(run), kind.pair(), tenant, seq, None).map(Some);
        }
        if started {
            self.add_event(run.created_at, RowKind::Started, tenant, seq, None)?;
        }
        let Some(kind) = terminal else { return Ok(None) };
        for emit in &accept.emits {
            self.add_event(emit.at, RowKind::GuestEmit, tenant, seq, Some(emit.data.as_ref()))?;
        }
        self.add_event(ended_at(run), kind, tenant, seq, None).map(Some)
    }

    fn add_event(
        &mut self,
        at: u64,
        kind: RowKind,
        tenant: i64,
        run: u64,
        body: Option<&[u8]>,
    ) -> Result<u64, Fault> {
        let seq = self.counters.next_event;
        self.sql.add_event.execute(params![
            int(seq),
            int(at),
            kind as i64,
            tenant,
            self.source,
            int(run),
            body
        ])?;
        self.counters.next_event += 1;
        Ok(seq)
    }

    fn started(&mut self, run_id: RunId, at: u64) -> Result<(), Fault> {
        let run = self.find(run_id)?;
        match run.status {
            Status::Accepted => {}
            Status::Running => return Err(Fault::Refused(WriteError::AlreadyStarted(run_id))),
            _ => return Err(Fault::Refused(WriteError::AlreadyEnded(run_id))),
        }
        self.sql.start_run.execute(params![run.seq, codes::status_code(Status::Running), int(at)])?;
        self.sql.drop_pending.execute(params![run.seq])?;
        Ok(())
    }

    fn ended(&mut self, run: &RunRow) -> Result<(), Fault> {
        let found = self.find(run.run_id)?;
        if found.status.is_terminal() {
            return Err(Fault::Refused(WriteError::AlreadyEnded(run.run_id)));
        }
        let Some(kind) = terminal_kind(run.status) else {
            let text = format!("the final record of {} says that the run has not ended", run.run_id);
            return Err(Fault::Refused(WriteError::Refused(text)));
        };
        let last = self.add_event(ended_at(run), kind, found.tenant, uint(found.seq), None)?;
        self.sql.end_run.execute(params![
            found.seq,
            codes::status_code(run.status),
            run.started_at.map(int),
            run.ended_at.map(int),
            int(last),
            run.json.as_ref(),
        ])?;
        if found.status == Status::Accepted {
            self.sql.drop_pending.execute(params![found.seq])?;
        }
        Ok(())
    }

    fn emit(&mut self, run_id: RunId, emit: &Emit) -> Result<(), Fault> {
        let run = self.find(run_id)?;
        if run.status.is_terminal() {
            return Err(Fault::Refused(WriteError::AlreadyEnded(run_id)));
        }
        if !run.mode.executes() {
            let text = format!("{run_id} does not execute, so its guest cannot have emitted anything");
            return Err(Fault::Refused(WriteError::Refused(text)));
        }
        self.add_event(emit.at, RowKind::GuestEmit, run.tenant, uint(run.seq), Some(emit.data.as_ref()))?;
        Ok(())
    }

    fn find(&mut self, run_id: RunId) -> Result<Found, Fault> {
        let found = self
            .sql
            .find_run
            .query_row([IdBytes::from(run_id)], |row| {
                Ok(Found {
                    seq: row.get(0)?,
                    tenant: row.get(1)?,
                    status: row.get::<_, codes::CodedStatus>(2)?.0,
                    mode: row.get::<_, codes::CodedMode>(3)?.0,
                })
            })
            .optional()?;
        found.ok_or(Fault::Refused(WriteError::UnknownRun(run_id)))
    }

    fn take_key(&mut self, tenant: i64, key: &crate::keys::Reservation) -> Result<(), Fault> {
        let known = key.known();
        let taken = self.sql.add_key.execute(params![
            tenant,
            key.key(),
            known.fingerprint.as_slice(),
            IdBytes::from(known.run_id),
            int(known.expires_at),
            int(key.now()),
        ])?;
        if taken == 1 {
            return Ok(());
        }
        let owner: IdBytes = self.sql.find_key.query_row(params![tenant, key.key()], |row| row.get(0))?;
        Err(Fault::Refused(WriteError::KeyTaken(owner.run_id())))
    }

    fn tenant(&mut self, name: &Arc<str>) -> Result<i64, Fault> {
        if let Some(&id) = self.tenants.get(name) {
            return Ok(id);
        }
        let found = self.sql.find_tenant.query_row([name.as_ref()], |row| row.get(0)).optional()?;
        let id = match found {
            Some(id) => id,
            None => self.sql.add_tenant.insert([name.as_ref()])?,
        };
        self.tenants.insert(Arc::clone(name), id);
        Ok(id)
    }

    fn kv_set(&mut self, key: &KvKey, value: &[u8], limits: KvLimits) -> Result<(), Fault> {
        check_key(key)?;
        if value.len() > limits.max_value_bytes {
            let (size, max) = (value.len(), limits.max_value_bytes);
            return Err(Fault::Refused(WriteError::KvValue { size, max }));
        }
        let tenant = self.tenant(&key.tenant)?;
        let (space, keys) = match self.space(tenant, &key.space)? {
            Some(space) => space,
            None if limits.max_keys == 0 => return Err(Fault::Refused(WriteError::KvKeys(0))),
            None => {
                let spaces: i64 = self.sql.count_spaces.query_row([tenant], |row| row.get(0))?;
                if spaces >= i64::from(KV_SPACES_MAX) {
                    return Err(Fault::Refused(WriteError::KvSpaces(KV_SPACES_MAX)));
                }
                (self.sql.add_space.insert(params![tenant, key.space])?, 0)
            }
        };
        if self.sql.change_value.execute(params![space, key.key, value])? == 1 {
            return Ok(());
        }
        if keys >= i64::from(limits.max_keys) {
            return Err(Fault::Refused(WriteError::KvKeys(limits.max_keys)));
        }
        self.sql.add_value.execute(params![space, key.key, value])?;
        self.sql.count_space.execute(params![space, 1])?;
        Ok(())
    }

    fn kv_delete(&mut self, key: &KvKey) -> Result<bool, Fault> {
        check_key(key)?;
        let tenant = self.tenant(&key.tenant)?;
        let Some((space, keys)) = self.space(tenant, &key.space)? else { return Ok(false) };
        let found = self.sql.drop_value.execute(params![space, key.key])? == 1;
        if found && keys > 1 {
            self.sql.count_space.execute(params![space, -1])?;
        } else if found {
            self.sql.drop_space.execute([space])?;
        }
        Ok(found)
    }

    fn space(&mut self, tenant: i64, name: &str) -> Result<Option<(i64, i64)>, Fault> {
        let found =
            self.sql.find_space.query_row(params![tenant, name], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(found.optional()?)
    }
}

struct Found {
    seq: i64,
    tenant: i64,
    status: Status,
    mode: Mode,
}

fn check_key(key: &KvKey) -> Result<(), Fault> {
    if key.key.is_empty() || key.key.len() > KV_KEY_MAX {
        return Err(Fault::Refused(WriteError::KvKey(key.key.len())));
    }
    Ok(())
}

/// A record without its time of ending ended when it was made.
fn ended_at(run: &RunRow) -> u64 {
    run.ended_at.unwrap_or(run.created_at)
}

/// The event of an end. A cancelled run did not end as it should.
const fn terminal_kind(status: Status) -> Option<RowKind> {
    match status {
        Status::Finished => Some(RowKind::Finished),
        Status::Error | Status::Cancelled => Some(RowKind::Error),
        Status::Accepted | Status::Running | Status::Frozen => None,
    }
}

/// What SQLite's refusal of a batch means to the one who sent it.
pub(crate) fn explain(changes: &[Change], error: &rusqlite::Error) -> WriteError {
    let twice =
        error.sqlite_error().is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE);
    if twice && error.to_string().contains("runs.run_id") {
        for change in changes {
            if let Change::Accept(accept) = change {
                return WriteError::DuplicateRun(accept.run.run_id);
            }
        }
    }
    WriteError::from_sqlite(error)
}
