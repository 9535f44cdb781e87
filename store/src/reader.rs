//! Reading, on a connection that cannot write. Methods block for the time of the read (microseconds from the page
//! cache, more from a disk): a thread that must not block uses the async methods of [`crate::Store`].

use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use void_api::{RunId, RunRecord, Status, Timestamp};

use crate::change::KvKey;
use crate::codes::{CodedMode, CodedStatus, FIRST_TERMINAL, IdBytes, int, uint};
use crate::error::ReadError;
use crate::events::{Event, EventKind, RowKind, created_at, data_from_record};
use crate::keys::Known;

/// Rows of events looked at in one call, so that a rare filter does not hold the thread for long.
const EVENTS_SCANNED: u64 = 20_000;

/// A stored run.
#[derive(Debug, Clone)]
pub struct StoredRun {
    /// Its id.
    pub run_id: RunId,
    /// Where it stands.
    pub status: Status,
    /// How it was admitted.
    pub mode: void_api::Mode,
    /// The record as JSON, the body of `GET /v1/runs/{run_id}`.
    pub json: Bytes,
}

impl StoredRun {
    /// The record.
    ///
    /// # Errors
    /// The stored JSON is no record, which means damage.
    pub fn record(&self) -> Result<RunRecord, ReadError> {
        serde_json::from_slice(&self.json).map_err(|_| ReadError::Damaged)
    }

    /// Reads a row of [`COLUMNS`].
    pub(crate) fn from_row(row: &Row<'_>) -> Result<Self, ReadError> {
        let status = row.get::<_, CodedStatus>(1)?.0;
        let json = row.get_ref(3)?.as_blob().map_err(|_| ReadError::Damaged)?;
        let mut run = Self {
            run_id: row.get::<_, IdBytes>(0)?.run_id(),
            status,
            mode: row.get::<_, CodedMode>(2)?.0,
            json: Bytes::copy_from_slice(json),
        };
        if status == Status::Running {
            // The start changed two columns and not the record: most runs are never read in this state.
            let mut record = run.record()?;
            record.status = status;
            record.started_at = row.get::<_, Option<i64>>(4)?.map(uint).map(Timestamp).or(record.started_at);
            run.json = serde_json::to_vec(&record).map_err(|_| ReadError::Damaged)?.into();
        }
        Ok(run)
    }
}

/// Bytes from which on a page of a list, or of events, ends: what guests wrote and emitted may be large.
pub(crate) const PAGE_BYTES: usize = 8 << 20;

/// Rows that say of events after `?1` and up to `?2`, in order: those of the table, and runs whose own row has both of theirs. A
/// pair of which the first is `?2` is among them, or whoever goes on after `?2` would miss it. SQLite merges the two kinds as
/// they are read. The numbers of statuses and kinds are those of [`crate::codes`] and [`RowKind`].
const EVENTS: &str = "
    SELECT e.seq, e.at, e.kind, t.name, s.name, r.run_id, e.body, r.record
    FROM events e CROSS JOIN runs r ON r.seq = e.run CROSS JOIN tenants t ON t.id = e.tenant
        CROSS JOIN sources s ON s.id = e.source
    WHERE e.seq > ?1 AND e.seq <= ?2 + 1 AND (e.seq <= ?2 OR e.kind >= 4)
        AND (?3 IS NULL OR e.tenant = ?3) AND (?4 IS NULL OR e.run = ?4)
    UNION ALL
    SELECT r.seq, r.ended_at, iif(r.status = 2, 4, 5), t.name, s.name, r.run_id, NULL, r.record
    FROM runs r CROSS JOIN tenants t ON t.id = r.tenant CROSS JOIN sources s ON s.id = r.source
    WHERE r.seq > ?1 AND r.seq <= ?2 + 1 AND (?3 IS NULL OR r.tenant = ?3) AND (?4 IS NULL OR r.seq = ?4)
    ORDER BY 1";

/// What [`StoredRun::from_row`] reads, of `runs r`.
pub(crate) const COLUMNS: &str = "r.run_id, r.status, r.mode, r.record, r.started_at";

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this run.
    pub run_id: Option<RunId>,
    /// Of this type.
    pub kind: Option<EventKind>,
}

/// Some events, in order.
#[derive(Debug, Clone, Default)]
pub struct EventPage {
    /// Those that match.
    pub events: Vec<Event>,
    /// Everything up to this number was looked at: go on after it.
    pub scanned_to: u64,
    /// The newest number there was. When `scanned_to` has reached it, wait for [`crate::Store::watch_events`].
    pub newest: u64,
}

/// A connection of its own; not shared between threads.
#[derive(Debug)]
pub struct Reader {
    pub(crate) conn: Connection,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self, ReadError> {
        let conn = Connection::open_with_flags(path, crate::open::flags())?;
        crate::schema::prepare_reader(&conn)?;
        Ok(Self { conn })
    }

    /// One run of a tenant; `None` also where it is another tenant's.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn get(&self, tenant: &str, run_id: RunId) -> Result<Option<StoredRun>, ReadError> {
        let mut sql = self.conn.prepare_cached(
            "SELECT r.run_id, r.status, r.mode, r.record, r.started_at
             FROM tenants t JOIN runs r ON r.tenant = t.id WHERE t.name = ?2 AND r.run_id = ?1",
        )?;
        let mut rows = sql.query(params![IdBytes::from(run_id), tenant])?;
        rows.next()?.map(StoredRun::from_row).transpose()
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn kv_get(&self, key: &KvKey) -> Result<Option<Bytes>, ReadError> {
        let mut sql = self.conn.prepare_cached(
            "SELECT v.value FROM tenants t JOIN kv_spaces s ON s.tenant = t.id JOIN kv v ON v.space = s.id
             WHERE t.name = ?1 AND s.name = ?2 AND v.key = ?3",
        )?;
        let value: Option<Vec<u8>> =
            sql.query_row(params![key.tenant, key.space, key.key], |row| row.get(0)).optional()?;
        Ok(value.map(Bytes::from))
    }

    /// The newest number of the sequence in which events stand.
    fn newest(&self) -> Result<u64, ReadError> {
        let newest = "SELECT max(coalesce((SELECT max(seq) FROM events), 0), coalesce((SELECT max(seq) FROM runs), 0))";
        Ok(self.conn.prepare_cached(newest)?.query_row([], |row| row.get(0)).map(uint)?)
    }

    /// Events with a number greater than `after`, in order, at most `limit` rows, and fewer where they are large. Events whose run has been deleted are
    /// gone with it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn events_after(
        &self,
        after: u64,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<EventPage, ReadError> {
        let newest = self.newest()?;
        let mut from = after;
        let mut tenant = None;
        if let Some(name) = &filter.tenant {
            let Some(id) = self.tenant(name)? else {
                return Ok(EventPage { events: Vec::new(), scanned_to: newest.max(after), newest });
            };
            tenant = Some(id);
        }
        let mut run = None;
        let mut last = newest;
        if let Some(run_id) = filter.run_id {
            let found: Option<(i64, i64, i64, Option<i64>)> = self
                .conn
                .prepare_cached(
                    "SELECT r.seq, r.status, r.first_event, r.last_event
                     FROM tenants t CROSS JOIN runs r ON r.tenant = t.id AND r.run_id = ?1 WHERE ?2 IS NULL OR t.id = ?2",
                )?
                .query_row(params![IdBytes::from(run_id), tenant], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })
                .optional()?;
            let Some((seq, status, first, end)) = found else {
                return Ok(EventPage { events: Vec::new(), scanned_to: newest.max(after), newest });
            };
            run = Some(seq);
            // All events of the run lie between these two; one that ended without an event has none.
            from = from.max(uint(first).saturating_sub(1));
            last = match end {
                Some(end) => uint(end),
                None if status >= FIRST_TERMINAL => 0,
                None => newest,
            };
        }
        if from >= last {
            return Ok(EventPage { events: Vec::new(), scanned_to: newest.max(after), newest });
        }
        let mut to = last.min(from.saturating_add(EVENTS_SCANNED));
        let end = to;
        if to == last {
            // Behind the run's last event there is nothing to look at.
            to = newest;
        }
        let mut page = EventPage { events: Vec::new(), scanned_to: to.max(after), newest };
        let mut sql = self.conn.prepare_cached(EVENTS)?;
        let mut rows = sql.query(params![int(from), int(end), tenant, run])?;
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let seq = uint(row.get(0)?);
            page.scanned_to = page.scanned_to.max(seq);
            for event in events_of_row(row, seq)? {
                let wanted = filter.kind.is_none_or(|kind| kind == event.kind);
                if event.seq > after && wanted {
                    bytes += event.data.len();
                    page.events.push(event);
                }
            }
            if page.events.len() >= limit || bytes >= PAGE_BYTES {
                page.scanned_to = seq;
                break;
            }
        }
        Ok(page)
    }

    pub(crate) fn tenant(&self, name: &str) -> Result<Option<i64>, ReadError> {
        let mut sql = self.conn.prepare_cached("SELECT id FROM tenants WHERE name = ?1")?;
        Ok(sql.query_row([name], |row| row.get(0)).optional()?)
    }

    pub(crate) fn key(&self, tenant: &str, key: &str, now: u64) -> Result<Option<Known>, ReadError> {
        let mut sql = self.conn.prepare_cached(
            "SELECT k.fingerprint, k.run_id, k.expires_at FROM tenants t JOIN keys k ON k.tenant = t.id
             WHERE t.name = ?1 AND k.key = ?2 AND k.expires_at > ?3",
        )?;
        let known = sql.query_row(params![tenant, key, int(now)], |row| {
            Ok(Known {
                fingerprint: row.get(0)?,
                run_id: row.get::<_, IdBytes>(1)?.run_id(),
                expires_at: uint(row.get(2)?),
            })
        });
        Ok(known.optional()?)
    }

    /// Calls `each` with the tenant and key of every idempotency key.
    pub(crate) fn each_key(&self, mut each: impl FnMut(&str, &str)) -> Result<(), ReadError> {
        let mut sql = self
            .conn
            .prepare("SELECT t.name, k.key FROM keys k JOIN tenants t ON t.id = k.tenant ORDER BY k.id")?;
        let mut rows = sql.query([])?;
        while let Some(row) = rows.next()? {
            let damaged = |_| ReadError::Damaged;
            each(row.get_ref(0)?.as_str().map_err(damaged)?, row.get_ref(1)?.as_str().map_err(damaged)?);
        }
        Ok(())
    }
}

/// The one or two events of a row.
fn events_of_row(row: &Row<'_>, seq: u64) -> Result<Vec<Event>, ReadError> {
    let kind = RowKind::from_number(row.get(2)?).ok_or(ReadError::Damaged)?;
    let run_id = row.get::<_, IdBytes>(5)?.run_id();
    let record = row.get_ref(7)?.as_blob().map_err(|_| ReadError::Damaged)?;
    let at = uint(row.get(1)?);
    let mut events = Vec::with_capacity(2);
    for &(below, event) in kind.events() {
        let data = match event {
            EventKind::GuestEmit => row.get::<_, Option<Vec<u8>>>(6)?.map_or_else(Bytes::new, Bytes::from),
            own => data_from_record(own, record).map_err(|_| ReadError::Damaged)?,
        };
        events.push(Event {
            seq: seq - below,
            // Of a pair the row has the time of the end.
            at: if below == 0 { at } else { created_at(record).map_err(|_| ReadError::Damaged)? },
            kind: event,
            tenant: row.get::<_, Box<str>>(3)?,
            source: row.get::<_, Box<str>>(4)?,
            run_id,
            data,
        });
    }
    Ok(events)
}
