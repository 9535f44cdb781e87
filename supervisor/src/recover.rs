//! Taking up what the last process left: runs that were accepted and had not started, with the policy of their acceptance.

use std::sync::Arc;

use void_api::{ExecRequest, Reason, RunRecord, Status, Timestamp};
use void_policy::settings::Settings;
use void_store::{Batch, Change, Pending, RunRow, Store};

use crate::settings::Snapshot;

/// A run to take up again.
#[derive(Debug)]
pub(crate) struct Resumed {
    /// Whose it is.
    pub(crate) tenant: Arc<str>,
    /// Its record as it was accepted.
    pub(crate) record: RunRecord,
    /// Its request.
    pub(crate) request: ExecRequest,
    /// The settings that stood when it was accepted.
    pub(crate) policy: Arc<Snapshot>,
}

/// Reads a pending run back. One that cannot be read ends in `internal`: it is not lost, and not guessed at.
pub(crate) fn read(store: &Store, pending: Pending) -> Option<Resumed> {
    let request = ExecRequest::parse(&pending.request);
    let policy = serde_json::from_slice::<Vec<(String, String)>>(&pending.policy)
        .ok()
        .and_then(|variables| Settings::from_vars(variables, None, 1).ok());
    match (request, policy) {
        (Ok(request), Some((settings, _))) => {
            let policy = Arc::new(Snapshot::of_run(settings));
            Some(Resumed { tenant: pending.tenant, record: pending.record, request, policy })
        }
        _ => {
            let mut record = pending.record;
            tracing::error!(run_id = %record.run_id, "a stored request cannot be read by this release");
            record.status = Status::Error;
            record.reason = Some(Reason::Internal);
            record.error = Some("the stored request cannot be read by this release: send it again".into());
            record.finished_at = Some(Timestamp(store.now_ms()));
            if let Ok(row) = RunRow::new(&pending.tenant, &record) {
                drop(store.submit(Batch::new().with(Change::Ended(Box::new(row))).until_committed()));
            }
            None
        }
    }
}
