//! What the store is told of a run, in which order, and what waits for it.
//!
//! ```text
//! nothing ─ accepted ⇄ running ─ ended      each step a commit; a run goes through as few as what was told allows
//! ```
//! A client that hears of the acceptance, and a key, make the acceptance *owed*: it is in the store before the client hears and
//! before the guest runs, and in the same step as the beginning where the run can begin at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use void_api::{Mode, Problem, Reason, RunRecord, Status, Timestamp};
use void_store::{Accept, Batch, Change, Commit, Reservation, RunRow, WriteError};

use super::refusals::unavailable;
use super::{MOMENT, Run};
use crate::app::App;
use crate::outcome::Outcome;

/// How far the store knows of a run, or will: changes are committed in the order in which they are submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    Nothing,
    Accepted,
    Running,
    /// The acceptance could not be stored: there is no such run.
    Refused,
}

/// An acceptance that is to be stored before the client hears of the run and before its guest runs.
pub(super) struct Owed {
    key: Option<Reservation>,
    /// How long the client may be kept waiting for the run to begin, which would spare it a step.
    patience: Duration,
    told: oneshot::Sender<Result<(), WriteError>>,
}

impl Owed {
    /// See the fields.
    pub(super) fn new(
        key: Option<Reservation>,
        patience: Duration,
        told: oneshot::Sender<Result<(), WriteError>>,
    ) -> Owed {
        Owed { key, patience, told }
    }
}

/// The commits of others are not kept waiting for that of a run which has not ended by then, for want of a place or a module.
const SOON: Duration = Duration::from_millis(20);

impl Run {
    /// Awaits the run's end; from [`SOON`] on no commit waits for it.
    pub(super) async fn soon_or_unexpected<T>(&self, end: impl Future<Output = T>) -> T {
        tokio::pin!(end);
        tokio::select! {
            biased;
            end = &mut end => return end,
            () = tokio::time::sleep(SOON) => drop(self.expected.take()),
        }
        end.await
    }

    /// Whether the store knows of the run, or has to before its guest runs.
    pub(super) fn is_known(&self) -> bool {
        let owed = self.owed.take();
        let known = self.stored.get() != Stored::Nothing || owed.is_some();
        self.owed.set(owed);
        known
    }

    /// Waits until the acceptance is to be stored by itself: without its beginning, or before the end.
    pub(super) async fn patience(&self) {
        let owed = self.owed.take();
        let patience = owed.as_ref().map_or(MOMENT, |owed| owed.patience);
        self.owed.set(owed);
        match self.stored.get() {
            Stored::Nothing if patience.is_zero() => {}
            Stored::Nothing => tokio::time::sleep(patience).await,
            Stored::Accepted | Stored::Running | Stored::Refused => std::future::pending().await,
        }
    }

    /// Stores the acceptance of a run that has not begun in time, or has and takes long.
    pub(super) async fn store_acceptance(&self, app: &App) {
        if self.stored.get() != Stored::Nothing {
            return;
        }
        let Some(owed) = self.owed.take() else { return self.store_unheard(app) };
        let record = self.live.record.lock().clone();
        let Some(row) = self.row(&record) else { return };
        self.stored.set(Stored::Accepted);
        self.store_first(app, owed, self.queued(row)).await;
    }

    /// Stores a run of which nobody has been told, as far as it has come. Its end waits for a commit of its own.
    fn store_unheard(&self, app: &App) {
        if self.stored.get() != Stored::Nothing {
            return;
        }
        let record = self.live.record.lock().clone();
        let running = record.status == Status::Running;
        let Some(row) = self.row(&record) else { return };
        let accept = if running { Accept::begun(row) } else { self.queued(row) };
        drop(app.store.submit(Batch::from(accept).until_committed()));
        self.stored.set(if running { Stored::Running } else { Stored::Accepted });
        if running {
            self.outbox.open();
        }
    }

    /// Sends the guest's events to the store, after the run itself.
    pub(super) fn send_events(&self, app: &App) -> Option<Commit> {
        self.store_unheard(app);
        (self.stored.get() != Stored::Nothing).then(|| self.outbox.send(&app.store))
    }

    /// Stores that the run begins: after its acceptance, or together with it.
    pub(super) async fn store_beginning(&self, app: &App) -> Result<(), Box<Outcome>> {
        let at = app.store.now_ms();
        let record = {
            let mut record = self.live.record.lock();
            record.started_at = Some(Timestamp(at));
            record.clone()
        };
        let stored = match self.owed.take() {
            Some(owed) => {
                self.stored.set(Stored::Running);
                match self.row(&RunRecord { status: Status::Running, ..record }) {
                    Some(row) => self.store_first(app, owed, Accept::begun(row)).await,
                    None => false,
                }
            }
            None => {
                self.stored.set(Stored::Running);
                let tenant = Arc::clone(&self.tenant);
                self.store_end(app, Change::Started { tenant, run_id: self.id, at }).await
            }
        };
        if stored {
            return Ok(());
        }
        Err(Box::new(Outcome::error(
            Reason::Internal,
            "the run's beginning could not be stored: send it again",
        )))
    }

    /// Stores that the run has not begun after all. Where that fails the store is being closed, and the run ends `interrupted`.
    pub(super) async fn store_held_back(&self, app: &App) {
        let record = {
            let mut record = self.live.record.lock();
            record.started_at = None;
            record.clone()
        };
        let Some(row) = self.row(&record) else { return };
        if self.store_end(app, Change::HeldBack(Box::new(self.queued(row)))).await {
            self.stored.set(Stored::Accepted);
        }
    }

    /// The run as a row; `None`, and no such run, where its record is no JSON, which strings, numbers and maps with string
    /// keys always are.
    pub(super) fn row(&self, record: &RunRecord) -> Option<RunRow> {
        RunRow::new(&self.tenant, record)
            .inspect_err(|error| {
                tracing::error!(run_id = %self.id, %error, "a record could not be written");
                self.stored.set(Stored::Refused);
            })
            .ok()
    }

    fn queued(&self, row: RunRow) -> Accept {
        Accept::queued(row, Bytes::from(self.request.to_json()), self.policy.blob(), None)
    }

    /// Stores what the client is to be told of, and tells. Where it cannot be stored there is no run.
    pub(super) async fn store_first(&self, app: &App, owed: Owed, mut accept: Accept) -> bool {
        accept.key = owed.key;
        let stored = app.store.submit_alone(accept, self.commits_to_come()).await;
        let is_stored = stored.is_ok();
        if !is_stored {
            self.stored.set(Stored::Refused);
        }
        // Whether the client still listens makes no difference to the run.
        let _ = owed.told.send(stored.map(drop));
        is_stored
    }

    /// Stores what is told to nobody before it is stored: it is tried until it is.
    pub(super) async fn store_end(&self, app: &App, batch: impl Into<Batch>) -> bool {
        let batch = batch.into().until_committed();
        let stored = app.store.submit_alone(batch, self.commits_to_come()).await;
        if let Err(error) = &stored {
            tracing::error!(run_id = %self.id, %error, "a run's state could not be stored");
        }
        stored.is_ok()
    }

    /// How many batches the store expects from this run.
    fn commits_to_come(&self) -> usize {
        let expected = self.expected.take();
        let many = usize::from(expected.is_some());
        self.expected.set(expected);
        many
    }
}

/// Stores a run that came while execution was frozen.
pub(super) async fn store_frozen(
    app: &App,
    tenant: &Arc<str>,
    record: &RunRecord,
    key: Option<Reservation>,
) -> Result<(), Problem> {
    let row = RunRow::new(tenant, record).map_err(|error| unavailable(&error))?;
    let accept = Accept::queued(row, Bytes::new(), Bytes::new(), key);
    app.store.submit(accept).await.map_err(|error| unavailable(&error))?;
    app.metrics.run_ended(Status::Frozen, Mode::Frozen, None);
    Ok(())
}
