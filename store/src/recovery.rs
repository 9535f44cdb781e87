//! What the last process left: runs to execute are handed out, runs under way end as `interrupted`, never to be
//! executed again. One transaction, before anything else is written.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, params};
use void_api::{Reason, RunId, RunRecord, Status, Timestamp};

use crate::apply::{Applier, Fault};
use crate::change::{Change, RunRow};
use crate::codes::{self, IdBytes};

/// What the caller has to go on with.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Runs that were accepted and not started, oldest first: to be executed.
    pub pending: Vec<Pending>,
    /// Runs that were under way when the process died; each has ended with `interrupted`.
    pub interrupted: Vec<RunId>,
}

/// An accepted run that has not started.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The tenant.
    pub tenant: Arc<str>,
    /// The record as it was accepted.
    pub record: RunRecord,
    /// The bytes given at acceptance.
    pub request: Bytes,
    /// The bytes given at acceptance.
    pub policy: Bytes,
}

const INTERRUPTED: &str =
    "the service stopped while the run was under way; it is not executed again: send it anew if that is safe";

/// Reads what is open, and ends what was under way.
pub(crate) fn recover(conn: &Connection, source: i64, now_ms: u64) -> Result<Recovery, rusqlite::Error> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    match recover_inside(conn, source, now_ms) {
        Ok(recovery) => {
            conn.execute_batch("COMMIT")?;
            Ok(recovery)
        }
        Err(error) => {
            let _ = conn.execute_batch("ROLLBACK");
            Err(error)
        }
    }
}

fn recover_inside(conn: &Connection, source: i64, now_ms: u64) -> Result<Recovery, rusqlite::Error> {
    let mut recovery = Recovery::default();
    let mut dead = Vec::new();
    {
        let mut open = conn.prepare(
            "SELECT r.run_id, t.name, r.status, r.record, r.started_at, p.request, p.policy
             FROM runs r INDEXED BY runs_open JOIN tenants t ON t.id = r.tenant LEFT JOIN pending p ON p.run = r.seq
             WHERE r.status < 2 ORDER BY r.seq",
        )?;
        let mut rows = open.query(params![])?;
        while let Some(row) = rows.next()? {
            let tenant: Arc<str> = row.get_ref(1)?.as_str()?.into();
            let status = row.get::<_, codes::CodedStatus>(2)?.0;
            let json = row.get_ref(3)?.as_blob()?;
            let mut record: RunRecord = serde_json::from_slice(json).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Blob, Box::new(error))
            })?;
            let request: Option<Vec<u8>> = row.get(5)?;
            if let (Status::Accepted, Some(request)) = (status, request) {
                let policy: Vec<u8> = row.get(6)?;
                recovery.pending.push(Pending {
                    tenant,
                    record,
                    request: request.into(),
                    policy: policy.into(),
                });
                continue;
            }
            let started: Option<i64> = row.get(4)?;
            record.started_at = started.map(codes::uint).map(Timestamp).or(record.started_at);
            recovery.interrupted.push(row.get::<_, IdBytes>(0)?.run_id());
            dead.push((tenant, record));
        }
    }
    if dead.is_empty() {
        return Ok(recovery);
    }
    let mut applier = Applier::new(conn, source)?;
    for (tenant, mut record) in dead {
        record.status = Status::Error;
        record.reason = Some(Reason::Interrupted);
        record.error = Some(INTERRUPTED.to_owned());
        record.result = None;
        record.finished_at = Some(Timestamp(now_ms));
        let run = RunRow::new(&tenant, &record)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        match applier.apply(conn, &Change::Ended(Box::new(run))) {
            Ok(_) => {}
            Err(Fault::Sql(error)) => return Err(error),
            Err(Fault::Refused(refusal)) => {
                return Err(rusqlite::Error::ToSqlConversionFailure(Box::new(refusal)));
            }
        }
    }
    Ok(recovery)
}
