//! Lists of runs, newest first, which is the order of their ids: they rise with the time of acceptance. A cursor is the id of
//! the last run shown: it tells nothing of other tenants, and what is accepted meanwhile comes before it and moves nothing.
//! Runs with a label are listed in the order in which they were stored, which differs where runs were under way together.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, params, params_from_iter};
use void_api::{Mode, RunId, Status};

use crate::change::label_text;
use crate::codes::{IdBytes, mode_code, status_code};
use crate::error::ReadError;
use crate::reader::{COLUMNS, PAGE_BYTES, Reader, StoredRun};

/// Most runs on a page.
pub const LIST_LIMIT: usize = 500;

/// Which runs.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// With this status.
    pub status: Option<Status>,
    /// With this mode.
    pub mode: Option<Mode>,
    /// With all of these labels.
    pub labels: Vec<(String, String)>,
    /// At most so many; a page that has grown to 8 MiB ends earlier. Cut to [`LIST_LIMIT`], and at least 1.
    pub limit: usize,
    /// [`RunPage::cursor`] of the page before.
    pub cursor: Option<String>,
}

/// One page.
#[derive(Debug, Clone, Default)]
pub struct RunPage {
    /// Newest first.
    pub runs: Vec<StoredRun>,
    /// For the next page; `None` on the last.
    pub cursor: Option<String>,
}

impl Reader {
    /// Runs of a tenant.
    ///
    /// # Errors
    /// [`ReadError::Cursor`], or the database cannot be read.
    pub fn list(&self, tenant: &str, filter: &ListFilter) -> Result<RunPage, ReadError> {
        let cursor = filter
            .cursor
            .as_ref()
            .map(|text| text.parse::<RunId>().map_err(|_| ReadError::Cursor))
            .transpose()?;
        let Some(tenant) = self.tenant(tenant)? else { return Ok(RunPage::default()) };
        let before = match (cursor, filter.labels.is_empty()) {
            (cursor, true) => IdBytes::from(cursor.unwrap_or(RunId::from_u128(u128::MAX))).into(),
            (None, false) => Value::Integer(i64::MAX),
            (Some(run_id), false) => {
                let place: Option<i64> = self
                    .conn
                    .prepare_cached("SELECT seq FROM runs WHERE tenant = ?1 AND run_id = ?2")?
                    .query_row(params![tenant, IdBytes::from(run_id)], |row| row.get(0))
                    .optional()?;
                // Runs are deleted oldest first: behind one that is gone there is nothing.
                let Some(place) = place else { return Ok(RunPage::default()) };
                Value::Integer(place)
            }
        };
        let limit = filter.limit.clamp(1, LIST_LIMIT);
        let (sql, values) = query(tenant, before, filter, limit);
        let mut sql = self.conn.prepare_cached(&sql)?;
        let mut rows = sql.query(params_from_iter(values))?;
        let mut page = RunPage::default();
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            if page.runs.len() == limit || bytes >= PAGE_BYTES {
                page.cursor = page.runs.last().map(|run| run.run_id.to_string());
                break;
            }
            let run = StoredRun::from_row(row)?;
            bytes += run.json.len();
            page.runs.push(run);
        }
        Ok(page)
    }
}

/// `before` is an id, and where labels are asked for, of which the index knows no ids, a run's number.
///
/// Only the shape of the filter goes into the text, so that there are few statements to prepare.
fn query(tenant: i64, before: Value, filter: &ListFilter, limit: usize) -> (String, Vec<Value>) {
    let mut values = vec![Value::Integer(tenant), before];
    let mut labels = filter.labels.iter().map(|(key, value)| Value::Text(label_text(key, value)));
    let (mut sql, order) = match labels.next() {
        Some(first) => {
            values.push(first);
            let sql = format!(
                "SELECT {COLUMNS} FROM labels l CROSS JOIN runs r ON r.seq = l.run
                 WHERE l.tenant = ?1 AND l.run < ?2 AND l.label = ?3"
            );
            (sql, "l.run")
        }
        None => {
            let sql = format!(
                "SELECT {COLUMNS} FROM runs r INDEXED BY runs_id WHERE r.tenant = ?1 AND r.run_id < ?2"
            );
            (sql, "r.run_id")
        }
    };
    for label in labels {
        values.push(label);
        sql += &format!(
            " AND EXISTS (SELECT 1 FROM labels o WHERE o.tenant = ?1 AND o.label = ?{} AND o.run = l.run)",
            values.len()
        );
    }
    if let Some(status) = filter.status {
        values.push(Value::Integer(status_code(status)));
        sql += &format!(" AND r.status = ?{}", values.len());
    }
    if let Some(mode) = filter.mode {
        values.push(Value::Integer(mode_code(mode)));
        sql += &format!(" AND r.mode = ?{}", values.len());
    }
    // One more than shown tells whether there is a next page.
    sql += &format!(" ORDER BY {order} DESC LIMIT {}", limit + 1);
    (sql, values)
}
