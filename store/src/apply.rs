//! Changes as SQL, on the writer's connection and inside its transaction. Decides nothing about groups or retries.
//!
//! Each change checks before it writes, so that a refusal leaves nothing behind.

mod sql;

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
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

/// The numbers that the next rows get. Set back when a group fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    /// In the sequence of runs and events.
    pub(crate) next: u64,
    /// In the count of runs.
    pub(crate) next_ordinal: u64,
}

impl Counters {
    /// Continues after what is stored. The newest rows are never deleted, so no number is given twice.
    pub(crate) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let number = |sql: &str| -> rusqlite::Result<u64> {
            let number: Option<Option<i64>> = conn.query_row(sql, [], |row| row.get(0)).optional()?;
            Ok(number.flatten().map_or(0, uint))
        };
        let run = number("SELECT max(seq) FROM runs")?;
        let event = number("SELECT max(seq) FROM events")?;
        let ordinal = number("SELECT coalesce(ordinal, seq) FROM runs ORDER BY seq DESC LIMIT 1")?;
        Ok(Self { next: run.max(event) + 1, next_ordinal: ordinal + 1 })
    }

    /// The newest number: of an event, or of a run that has none yet.
    pub(crate) const fn newest(&self) -> u64 {
        self.next - 1
    }
}

/// How a new run stands among the events.
struct Place {
    seq: u64,
    first_event: u64,
    last_event: Option<u64>,
    /// Whether its two events stand in its own row.
    paired: bool,
}

/// Applies changes, always on the same connection: what it knows beside the tables.
#[derive(Debug)]
pub(crate) struct Applier {
    source: i64,
    /// Numbers of tenants, among them perhaps some of a transaction that was rolled back: emptied then.
    tenants: HashMap<Arc<str>, i64>,
    /// No stored run has a greater id.
    greatest: RunId,
    pub(crate) counters: Counters,
}

impl Applier {
    pub(crate) fn new(conn: &Connection, source: i64) -> rusqlite::Result<Self> {
        let greatest = crate::open::greatest_id(conn)?.unwrap_or(RunId::from_u128(0));
        Ok(Self { source, tenants: HashMap::new(), greatest, counters: Counters::load(conn)? })
    }

    /// The transaction was rolled back to where `counters` stood.
    pub(crate) fn rolled_back(&mut self, counters: Counters) {
        self.counters = counters;
        self.tenants.clear();
    }

    /// Whether all that [`Applier::apply`] would write is one statement.
    pub(crate) fn is_one_statement(&self, changes: &[Change]) -> bool {
        matches!(changes, [Change::Accept(accept)]
            if is_paired(accept)
                && accept.key.is_none()
                && accept.run.labels.is_empty()
                && self.tenants.contains_key(&accept.run.tenant))
    }

    /// How many values it removed.
    pub(crate) fn apply(&mut self, conn: &Connection, change: &Change) -> Result<u32, Fault> {
        match change {
            Change::Accept(accept) => self.accept(conn, accept)?,
            Change::Started { tenant, run_id, at } => self.started(conn, tenant, *run_id, *at)?,
            Change::HeldBack(accept) => self.held_back(conn, accept)?,
            Change::Ended(run) => self.ended(conn, run)?,
            Change::Emit { tenant, run_id, emit } => self.emit(conn, tenant, *run_id, emit)?,
            Change::KvSet { key, value, limits } => self.kv_set(conn, key, value, *limits)?,
            Change::KvDelete { key } => return self.kv_delete(conn, key).map(u32::from),
        }
        Ok(0)
    }

    fn accept(&mut self, conn: &Connection, accept: &Accept) -> Result<(), Fault> {
        let run = &accept.run;
        let tenant = self.tenant(conn, &run.tenant)?;
        // Ids rise, so there is seldom anything to look up.
        if run.run_id <= self.greatest && find(conn, tenant, run.run_id)?.is_some() {
            return Err(Fault::Refused(WriteError::DuplicateRun(run.run_id)));
        }
        if let Some(key) = &accept.key {
            if key.tenant() != run.tenant.as_ref() || key.run_id() != run.run_id {
                let text =
                    format!("the key was reserved for the run {}, and not for {}", key.run_id(), run.run_id);
                return Err(Fault::Refused(WriteError::Refused(text)));
            }
            self.take_key(conn, tenant, key)?;
        }
        let place = self.place(conn, accept, tenant)?;
        let seq = place.seq;
        // A frozen run never begins: it grows old from its acceptance on.
        let is_over = run.status.is_terminal();
        conn.prepare_cached(sql::ADD_RUN)?.execute(params![
            int(seq),
            IdBytes::from(run.run_id),
            tenant,
            codes::status_code(run.status),
            codes::mode_code(run.mode),
            run.labels.len() as i64,
            run.started_at.map(int),
            is_over.then_some(ended_at(run)).map(int),
            int(place.first_event),
            place.last_event.map(int),
            run.json.as_ref(),
            int(self.counters.next_ordinal),
            place.paired.then_some(self.source),
        ])?;
        self.counters.next_ordinal += 1;
        self.greatest = self.greatest.max(run.run_id);
        for label in &run.labels {
            conn.prepare_cached(sql::ADD_LABEL)?.execute(params![
                tenant,
                label,
                IdBytes::from(run.run_id)
            ])?;
        }
        if run.status == Status::Accepted {
            self.add_pending(conn, int(seq), accept)?;
        }
        Ok(())
    }

    /// Numbers a new run, and writes those of its events that do not stand in its own row.
    fn place(&mut self, conn: &Connection, accept: &Accept, tenant: i64) -> Result<Place, Fault> {
        let run = &accept.run;
        let first = self.counters.next;
        if is_paired(accept) {
            self.counters.next += 2;
            let seq = first + 1;
            return Ok(Place { seq, first_event: first, last_event: Some(seq), paired: true });
        }
        let mut place = Place { seq: first, first_event: first, last_event: None, paired: false };
        if starts(run) {
            self.add_event(conn, run.created_at, RowKind::Started, tenant, first, None)?;
        }
        if let Some(kind) = terminal_kind(run.status) {
            for emit in &accept.emits {
                self.add_event(conn, emit.at, RowKind::GuestEmit, tenant, first, Some(emit.data.as_ref()))?;
            }
            place.last_event = Some(self.add_event(conn, ended_at(run), kind, tenant, first, None)?);
        }
        // A run without an event has a number too.
        self.counters.next = self.counters.next.max(first + 1);
        Ok(place)
    }

    fn add_event(
        &mut self,
        conn: &Connection,
        at: u64,
        kind: RowKind,
        tenant: i64,
        run: u64,
        body: Option<&[u8]>,
    ) -> Result<u64, Fault> {
        let seq = self.counters.next;
        conn.prepare_cached(sql::ADD_EVENT)?.execute(params![
            int(seq),
            int(at),
            kind as i64,
            tenant,
            self.source,
            int(run),
            body
        ])?;
        self.counters.next += 1;
        Ok(seq)
    }

    fn started(&mut self, conn: &Connection, tenant: &Arc<str>, run_id: RunId, at: u64) -> Result<(), Fault> {
        let run = self.stored(conn, tenant, run_id)?;
        match run.status {
            Status::Accepted => {}
            Status::Running => return Err(Fault::Refused(WriteError::AlreadyStarted(run_id))),
            _ => return Err(Fault::Refused(WriteError::AlreadyEnded(run_id))),
        }
        conn.prepare_cached(sql::START_RUN)?.execute(params![
            run.seq,
            codes::status_code(Status::Running),
            int(at)
        ])?;
        conn.prepare_cached(sql::DROP_PENDING)?.execute(params![run.seq])?;
        Ok(())
    }

    fn held_back(&mut self, conn: &Connection, accept: &Accept) -> Result<(), Fault> {
        let run = &accept.run;
        let found = self.stored(conn, &run.tenant, run.run_id)?;
        match found.status {
            Status::Running if run.status == Status::Accepted => {}
            Status::Running | Status::Accepted => {
                let text =
                    format!("{} can only be held back while it runs, as one that is accepted", run.run_id);
                return Err(Fault::Refused(WriteError::Refused(text)));
            }
            _ => return Err(Fault::Refused(WriteError::AlreadyEnded(run.run_id))),
        }
        let status = codes::status_code(Status::Accepted);
        conn.prepare_cached(sql::HOLD_RUN)?.execute(params![found.seq, status, run.json.as_ref()])?;
        self.add_pending(conn, found.seq, accept)
    }

    fn add_pending(&self, conn: &Connection, run: i64, accept: &Accept) -> Result<(), Fault> {
        let (request, policy) = (accept.request.as_ref(), accept.policy.as_ref());
        conn.prepare_cached(sql::ADD_PENDING)?.execute(params![run, request, policy])?;
        Ok(())
    }

    fn ended(&mut self, conn: &Connection, run: &RunRow) -> Result<(), Fault> {
        let found = self.stored(conn, &run.tenant, run.run_id)?;
        if found.status.is_terminal() {
            return Err(Fault::Refused(WriteError::AlreadyEnded(run.run_id)));
        }
        let Some(kind) = terminal_kind(run.status) else {
            let text = format!("the final record of {} says that the run has not ended", run.run_id);
            return Err(Fault::Refused(WriteError::Refused(text)));
        };
        let last = self.add_event(conn, ended_at(run), kind, found.tenant, uint(found.seq), None)?;
        conn.prepare_cached(sql::END_RUN)?.execute(params![
            found.seq,
            codes::status_code(run.status),
            run.started_at.map(int),
            run.ended_at.map(int),
            int(last),
            run.json.as_ref(),
        ])?;
        if found.status == Status::Accepted {
            conn.prepare_cached(sql::DROP_PENDING)?.execute(params![found.seq])?;
        }
        Ok(())
    }

    fn emit(
        &mut self,
        conn: &Connection,
        tenant: &Arc<str>,
        run_id: RunId,
        emit: &Emit,
    ) -> Result<(), Fault> {
        let run = self.stored(conn, tenant, run_id)?;
        if run.status.is_terminal() {
            return Err(Fault::Refused(WriteError::AlreadyEnded(run_id)));
        }
        if !run.mode.executes() {
            let text = format!("{run_id} does not execute, so its guest cannot have emitted anything");
            return Err(Fault::Refused(WriteError::Refused(text)));
        }
        self.add_event(
            conn,
            emit.at,
            RowKind::GuestEmit,
            run.tenant,
            uint(run.seq),
            Some(emit.data.as_ref()),
        )?;
        Ok(())
    }

    /// A run that was accepted before.
    fn stored(&mut self, conn: &Connection, tenant: &Arc<str>, run_id: RunId) -> Result<Found, Fault> {
        let found = match self.known_tenant(conn, tenant)? {
            Some(tenant) => find(conn, tenant, run_id)?,
            None => None,
        };
        found.ok_or(Fault::Refused(WriteError::UnknownRun(run_id)))
    }

    fn take_key(
        &mut self,
        conn: &Connection,
        tenant: i64,
        key: &crate::keys::Reservation,
    ) -> Result<(), Fault> {
        let known = key.known();
        let taken = conn.prepare_cached(sql::ADD_KEY)?.execute(params![
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
        let owner: IdBytes =
            conn.prepare_cached(sql::FIND_KEY)?.query_row(params![tenant, key.key()], |row| row.get(0))?;
        Err(Fault::Refused(WriteError::KeyTaken(owner.run_id())))
    }

    fn tenant(&mut self, conn: &Connection, name: &Arc<str>) -> Result<i64, Fault> {
        if let Some(id) = self.known_tenant(conn, name)? {
            return Ok(id);
        }
        let id = conn.prepare_cached(sql::ADD_TENANT)?.insert([name.as_ref()])?;
        self.tenants.insert(Arc::clone(name), id);
        Ok(id)
    }

    fn known_tenant(&mut self, conn: &Connection, name: &Arc<str>) -> Result<Option<i64>, Fault> {
        if let Some(&id) = self.tenants.get(name) {
            return Ok(Some(id));
        }
        let found =
            conn.prepare_cached(sql::FIND_TENANT)?.query_row([name.as_ref()], |row| row.get(0)).optional()?;
        if let Some(id) = found {
            self.tenants.insert(Arc::clone(name), id);
        }
        Ok(found)
    }

    fn kv_set(
        &mut self,
        conn: &Connection,
        key: &KvKey,
        value: &[u8],
        limits: KvLimits,
    ) -> Result<(), Fault> {
        check_key(key)?;
        if value.len() > limits.max_value_bytes {
            let (size, max) = (value.len(), limits.max_value_bytes);
            return Err(Fault::Refused(WriteError::KvValue { size, max }));
        }
        let tenant = self.tenant(conn, &key.tenant)?;
        let (space, keys) = match self.space(conn, tenant, &key.space)? {
            Some(space) => space,
            None if limits.max_keys == 0 => return Err(Fault::Refused(WriteError::KvKeys(0))),
            None => {
                let spaces: i64 =
                    conn.prepare_cached(sql::COUNT_SPACES)?.query_row([tenant], |row| row.get(0))?;
                if spaces >= i64::from(KV_SPACES_MAX) {
                    return Err(Fault::Refused(WriteError::KvSpaces(KV_SPACES_MAX)));
                }
                (conn.prepare_cached(sql::ADD_SPACE)?.insert(params![tenant, key.space])?, 0)
            }
        };
        if conn.prepare_cached(sql::CHANGE_VALUE)?.execute(params![space, key.key, value])? == 1 {
            return Ok(());
        }
        if keys >= i64::from(limits.max_keys) {
            return Err(Fault::Refused(WriteError::KvKeys(limits.max_keys)));
        }
        conn.prepare_cached(sql::ADD_VALUE)?.execute(params![space, key.key, value])?;
        conn.prepare_cached(sql::COUNT_SPACE)?.execute(params![space, 1])?;
        Ok(())
    }

    fn kv_delete(&mut self, conn: &Connection, key: &KvKey) -> Result<bool, Fault> {
        check_key(key)?;
        let tenant = self.tenant(conn, &key.tenant)?;
        let Some((space, keys)) = self.space(conn, tenant, &key.space)? else { return Ok(false) };
        let found = conn.prepare_cached(sql::DROP_VALUE)?.execute(params![space, key.key])? == 1;
        if found && keys > 1 {
            conn.prepare_cached(sql::COUNT_SPACE)?.execute(params![space, -1])?;
        } else if found {
            conn.prepare_cached(sql::DROP_SPACE)?.execute([space])?;
        }
        Ok(found)
    }

    fn space(&mut self, conn: &Connection, tenant: i64, name: &str) -> Result<Option<(i64, i64)>, Fault> {
        let found = conn
            .prepare_cached(sql::FIND_SPACE)?
            .query_row(params![tenant, name], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(found.optional()?)
    }
}

struct Found {
    seq: i64,
    tenant: i64,
    status: Status,
    mode: Mode,
}

fn find(conn: &Connection, tenant: i64, run_id: RunId) -> Result<Option<Found>, Fault> {
    let found =
        conn.prepare_cached(sql::FIND_RUN)?.query_row(params![tenant, IdBytes::from(run_id)], |row| {
            Ok(Found {
                seq: row.get(0)?,
                tenant,
                status: row.get::<_, codes::CodedStatus>(1)?.0,
                mode: row.get::<_, codes::CodedMode>(2)?.0,
            })
        });
    Ok(found.optional()?)
}

fn check_key(key: &KvKey) -> Result<(), Fault> {
    if key.key.is_empty() || key.key.len() > KV_KEY_MAX {
        return Err(Fault::Refused(WriteError::KvKey(key.key.len())));
    }
    Ok(())
}

/// Whether there is an event of its start.
const fn starts(run: &RunRow) -> bool {
    run.mode.executes() && !matches!(run.status, Status::Frozen)
}

/// Whether its events are the two of a run that begins and ends at once.
const fn is_paired(accept: &Accept) -> bool {
    starts(&accept.run) && terminal_kind(accept.run.status).is_some() && accept.emits.is_empty()
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
