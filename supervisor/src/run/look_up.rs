//! Runs that exist: their records, and their end at a client's wish.

use bytes::Bytes;
use void_api::{Problem, ProblemCode, RunId};

use super::refusals::unavailable;
use crate::app::App;

/// A run's record as JSON, from memory or from the store. `None`: unknown, or another tenant's.
///
/// # Errors
/// The store cannot be read.
pub(crate) async fn record(app: &App, tenant: &str, id: RunId) -> Result<Option<Bytes>, Problem> {
    if let Some(live) = app.runs.get(tenant, id) {
        return Ok(Some(live.record_json()));
    }
    let stored = app.store.get(tenant, id).await.map_err(|error| unavailable(&error))?;
    Ok(stored.map(|run| run.json))
}

/// Ends a run at its client's wish: its final record.
///
/// # Errors
/// Unknown, or ended already.
pub(crate) async fn cancel(app: &App, tenant: &str, id: RunId) -> Result<Bytes, Problem> {
    if let Some(live) = app.runs.get(tenant, id) {
        live.cancel();
        return Ok(live.ended().await);
    }
    match app.store.get(tenant, id).await.map_err(|error| unavailable(&error))? {
        Some(_) => {
            let ended = Problem::new(ProblemCode::AlreadyEnded, "the run has ended already: read its record");
            Err(ended.about(id))
        }
        None => {
            Err(Problem::new(ProblemCode::RunNotFound, "there is no such run: check the id and the token"))
        }
    }
}
