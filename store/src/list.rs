//! Lists of runs, newest first, which is the order of their ids: they rise with the time of acceptance. A cursor is the id of
//! the last run shown: it tells nothing of other tenants, and stays good when that run is deleted. What is accepted meanwhile
//! comes before it. A run that its client waits for is stored when it ends, or a little later than it was accepted: only then
//! it is in its place.

use rusqlite::params_from_iter;
use rusqlite::types::Value;
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
        let before = IdBytes::from(cursor.unwrap_or(RunId::from_u128(u128::MAX)));
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

/// Only the shape of the filter goes into the text, so that there are few statements to prepare.
fn query(tenant: i64, before: IdBytes, filter: &ListFilter, limit: usize) -> (String, Vec<Value>) {
    let mut values = vec![Value::Integer(tenant), before.into()];
    let mut labels = filter.labels.iter().map(|(key, value)| Value::Text(label_text(key, value)));
    let mut sql = match labels.next() {
        Some(first) => {
            values.push(first);
            format!(
                // The plus keeps planners from going by the bound of all ids instead of this one.
                "SELECT {COLUMNS}
                 FROM labels l CROSS JOIN runs r INDEXED BY runs_id ON r.tenant = l.tenant AND r.run_id = +l.run_id
                 WHERE l.tenant = ?1 AND l.run_id < ?2 AND l.label = ?3"
            )
        }
        None => {
            format!("SELECT {COLUMNS} FROM runs r INDEXED BY runs_id WHERE r.tenant = ?1 AND r.run_id < ?2")
        }
    };
    for label in labels {
        values.push(label);
        sql += &format!(
            " AND EXISTS (SELECT 1 FROM labels o WHERE o.tenant = ?1 AND o.label = ?{} AND o.run_id = l.run_id)",
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
    let order = if filter.labels.is_empty() { "r.run_id" } else { "l.run_id" };
    sql += &format!(" ORDER BY {order} DESC LIMIT {}", limit + 1);
    (sql, values)
}
