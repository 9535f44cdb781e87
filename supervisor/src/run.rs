//! One run as a straight line: admitted, recorded, resolved, compiled, checked, placed, begun, followed, concluded, recorded.
//!
//! ```text
//! submit ── policy admits ── store accepts ──▶ answered 202
//!    └─▶ execute: resolve ─ code ─ check ─ slot ─ lease ─ begin ─ follow ─ conclude ─▶ store, events, metrics, answer
//! ```
//! What a client was told survives the process: an acceptance that was answered is in the store before the
//! answer, and so is a run's beginning before its guest runs. A run whose client waits for the end and has been told
//! nothing yet is stored when it ends, or when it takes longer than a moment.

mod look_up;
mod refusals;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use void_api::{ExecRequest, Mode, Problem, Reason, RunId, RunRecord, Status, Timestamp};
use void_ipc::message::{Start, Value as WireValue};
use void_policy::admission::{Admission, Bucket, admit};
use void_store::{Accept, Batch, Change, Reservation, Reserve, RunRow};

use crate::app::App;
use crate::check::{self, Checked};
use crate::compile::{Code, CompileError};
use crate::lane::Lane;
use crate::metrics::{self, Laps, Stage};
use crate::outcome::{self, Outcome};
use crate::pool::{Key, Lease, LeaseError};
use crate::runs::LiveRun;
use crate::settings::Snapshot;
use crate::slots::Queued;
use crate::worker::{self, Budget};
pub(crate) use look_up::{cancel, record};
use refusals::{disabled, draining, mismatch, queue_full, unavailable};

/// A run that nobody was told of is stored all the same when it takes longer than this.
const MOMENT: Duration = Duration::from_millis(300);

/// What the client wants to hear first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// The run's end, if it comes in time.
    Answer,
    /// That the run was accepted.
    Accept,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Submitted {
    /// The run: this request's, or the one that an earlier request with its key began.
    pub(crate) run_id: RunId,
    /// As the client is told.
    pub(crate) mode: Mode,
    /// What the client should know besides.
    pub(crate) warning: Option<&'static str>,
    /// The run, where it is on its way.
    pub(crate) live: Option<Arc<LiveRun>>,
    /// Ends the run when the client hangs up before it was told anything.
    pub(crate) unheard: Option<Unheard>,
}

/// A run that its client has not been told of. Dropped, it cancels the run: nobody could ask for it.
#[derive(Debug)]
pub(crate) struct Unheard(Option<Arc<LiveRun>>);

impl Unheard {
    /// The client has been told, or is about to be.
    pub(crate) fn told(mut self) {
        self.0 = None;
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        if let Some(live) = &self.0 {
            live.cancel();
        }
    }
}

/// How far the store knows of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Nothing,
    Accepted,
    Running,
}

/// A run on its way.
struct Run {
    id: RunId,
    tenant: Arc<str>,
    request: ExecRequest,
    /// What stood when it was accepted.
    policy: Arc<Snapshot>,
    mode: Mode,
    live: Arc<LiveRun>,
    stored: Cell<Stored>,
    accepted: Instant,
    laps: Laps,
}

/// Steps 2 to 6 of `POST /v1/exec`; the run then goes on by itself on this lane.
///
/// # Errors
/// Why nothing was accepted.
pub(crate) async fn submit(
    lane: &Rc<Lane>,
    tenant: Arc<str>,
    request: ExecRequest,
    promise: Promise,
) -> Result<Submitted, Problem> {
    let laps = Laps::begin();
    let app = &lane.app;
    if !app.settings.now().settings.switches.enabled {
        return Err(disabled());
    }
    let id = RunId::new(app.store.now_ms(), random()?);
    let reservation = match &request.idempotency_key {
        None => None,
        Some(key) => {
            let reserved = app.store.reserve(&tenant, key, request.fingerprint(), id).await;
            match reserved.map_err(|error| unavailable(&error))? {
                Reserve::New(reservation) => Some(reservation),
                Reserve::Seen { run_id } => return Ok(cached(app, &tenant, run_id)),
                Reserve::Mismatch { run_id } => return Err(mismatch(run_id)),
            }
        }
    };
    let policy = app.settings.now();
    let bucket = match &request.idempotency_key {
        Some(key) => Bucket::of(&tenant, key),
        None => Bucket::of(&tenant, &id.to_string()),
    };
    let mode = match admit(&policy.settings.switches, bucket) {
        Admission::Disabled => return Err(disabled()),
        Admission::Frozen => Mode::Frozen,
        Admission::Execute(mode) => mode,
        Admission::DryRun => Mode::DryRun,
    };
    let mut record = RunRecord::accepted(id, mode, request.target.clone(), request.entry.to_string());
    record.labels.clone_from(&request.labels);
    if mode == Mode::Frozen {
        store_frozen(app, &tenant, &record, reservation).await?;
        let warning = Some(
            "execution is frozen: this run is recorded and will never be executed; send it again after the thaw",
        );
        return Ok(Submitted { run_id: id, mode, warning, live: None, unheard: None });
    }
    if app.state.draining() {
        return Err(draining());
    }
    let alone = policy.tokens.as_ref().is_none_or(|tokens| tokens.tenants().len() < 2);
    let queued = app.slots.enter(&tenant, alone).map_err(queue_full)?;
    let live = LiveRun::new(Arc::clone(&tenant), record);
    let stored = Cell::new(Stored::Nothing);
    let accepted = Instant::now();
    let run = Run { id, tenant, request, policy, mode, live: Arc::clone(&live), stored, accepted, laps };
    app.runs.insert(id, Arc::clone(&live));
    // As long as the storage fails nothing may run that could not be recorded: then each run is stored first.
    if promise == Promise::Answer && reservation.is_none() && !app.store.is_failing() {
        lane.spawn(run.go(Rc::clone(lane), queued));
        let unheard = Some(Unheard(Some(Arc::clone(&live))));
        return Ok(Submitted { run_id: id, mode, warning: None, live: Some(live), unheard });
    }
    // A task of its own from here on: a client that hangs up now must not leave a run stored and not begun.
    let (stored, accepted) = tokio::sync::oneshot::channel();
    let on = Rc::clone(lane);
    lane.spawn(async move {
        let accepted = run.accept(&on.app, reservation).await;
        let go_on = accepted.is_ok();
        // Whether the client still listens makes no difference to the run.
        let _ = stored.send(accepted);
        if go_on {
            run.go(on, queued).await;
        } else {
            on.app.runs.remove(id);
        }
    });
    match accepted.await {
        Ok(Ok(())) => Ok(Submitted { run_id: id, mode, warning: None, live: Some(live), unheard: None }),
        Ok(Err(error)) => Err(unavailable(&error)),
        Err(error) => Err(unavailable(&error)),
    }
}

/// Takes up a run that was accepted before a restart.
pub(crate) fn resume(lane: &Rc<Lane>, pending: crate::recover::Resumed) {
    let id = pending.record.run_id;
    let live = LiveRun::new(Arc::clone(&pending.tenant), pending.record.clone());
    lane.app.runs.insert(id, Arc::clone(&live));
    let queued = lane.app.slots.enter_again(&pending.tenant);
    let run = Run {
        id,
        tenant: pending.tenant,
        request: pending.request,
        policy: pending.policy,
        mode: pending.record.mode,
        live,
        stored: Cell::new(Stored::Accepted),
        accepted: Instant::now(),
        laps: Laps::begin(),
    };
    lane.spawn(run.go(Rc::clone(lane), queued));
}

impl Run {
    /// From acceptance to the published record.
    async fn go(self, lane: Rc<Lane>, queued: Queued) {
        let app = &lane.app;
        let (outcome, lease) = {
            let executed = self.execute(&lane, queued);
            tokio::pin!(executed);
            let at_once = async {
                if self.stored.get() != Stored::Nothing {
                    return None;
                }
                tokio::time::timeout(MOMENT, &mut executed).await.map_err(|_| self.store_unheard(app)).ok()
            }
            .await;
            match at_once {
                Some(end) => end,
                None => executed.await,
            }
        };
        self.finish(app, outcome).await;
        self.laps.end(&app.metrics, Stage::Record);
        // Taking the process apart costs more than most runs, so the answer leaves first.
        tokio::task::yield_now().await;
        self.laps.end(&app.metrics, Stage::Answer);
        drop(lease);
        self.laps.end(&app.metrics, Stage::Reap);
    }

    async fn execute(&self, lane: &Rc<Lane>, queued: Queued) -> (Outcome, Option<Lease>) {
        self.laps.end(&lane.app.metrics, Stage::Admit);
        let ready = tokio::select! {
            biased;
            ready = self.make_ready(lane) => ready,
            () = self.live.cancelled() => return (Outcome::cancelled(), None),
        };
        let (slot, lease, start) = match ready {
            Ok(Ready::Execute { slot, lease, start }) => (slot, *lease, start),
            Ok(Ready::DryRun) => return (Outcome::dry_run(), None),
            Err(outcome) => return (*outcome, None),
        };
        // A run that a freeze holds here can still be cancelled. Once it has begun there is no await left in there.
        let begun = tokio::select! {
            biased;
            begun = self.begin(lane, &lease, start) => begun,
            () = self.live.cancelled() => return (Outcome::cancelled(), Some(lease)),
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(outcome) => return (*outcome, Some(lease)),
        };
        self.laps.end(&lane.app.metrics, Stage::Send);
        drop(queued);
        lane.app.metrics.queue_wait(self.accepted.elapsed());
        let limits = &self.policy.settings.limits;
        let budget = Budget {
            cpu: Duration::from_millis(limits.cpu_ms),
            wall: Duration::from_millis(limits.wall_ms),
            nice: slot.nice(),
        };
        let _busy = lane.app.metrics.busy(metrics::Role::Run);
        let facts = worker::follow(&lease, begun, budget, &self.live, &lane.everywhere).await;
        self.laps.end(&lane.app.metrics, Stage::Run);
        drop(slot);
        (outcome::conclude(&facts, limits), Some(lease))
    }

    /// Lets the guest run, once it may, and once the store knows that it does where it knows of the run at all.
    async fn begin(&self, lane: &Rc<Lane>, lease: &Lease, start: Start) -> Result<Instant, Box<Outcome>> {
        loop {
            if self.stored.get() == Stored::Accepted {
                drop(lane.app.slots.may_begin().await);
                self.store_started(&lane.app).await?;
                self.stored.set(Stored::Running);
            }
            // From here to the request on its way there is no await: a freeze waits for it, or stops it.
            let (held, waited) = lane.app.slots.may_begin().await;
            // Stored while it waited: then its beginning is to be stored first.
            if self.stored.get() == Stored::Accepted {
                continue;
            }
            let begun = worker::begin(lease, start);
            if begun.is_ok() {
                self.mark_running(&lane.app, waited);
            }
            drop(held);
            return begun.map_err(|_| {
                let detail = "the run's process was gone before the run began: try again";
                Box::new(Outcome::error(Reason::WorkerCrashed, detail))
            });
        }
    }

    /// Everything before the guest: verified bytes, code, a fitting entry, a place, a process.
    async fn make_ready(&self, lane: &Rc<Lane>) -> Result<Ready, Box<Outcome>> {
        let app = &lane.app;
        let module = app
            .supply
            .resolve(&self.tenant, &self.request.target)
            .await
            .map_err(|error| Box::new(Outcome::error(error.reason(), error.to_string())))?;
        self.live.record.lock().source = Some(source(&module));
        let code =
            app.compiler.code(&self.tenant, module.sha256, &module.bytes).await.map_err(not_compiled)?;
        let checked = check::check(&code, &self.request)?;
        if self.mode == Mode::DryRun {
            return Ok(Ready::DryRun);
        }
        self.laps.end(&app.metrics, Stage::Prepare);
        let slot = app.slots.acquire(&self.tenant).await;
        let limits = &self.policy.settings.limits;
        let key =
            Key { tenant: Arc::clone(&self.tenant), sha256: module.sha256, mem_pages_max: limits.mem_pages };
        let lease = lane.pool.lease(&key, &code).await.map_err(|error| match error {
            LeaseError::Unloadable(why) => Box::new(outcome::unloadable(&why, limits)),
            other => {
                tracing::error!(error = %other, "no run process");
                Box::new(Outcome::error(
                    Reason::WorkerCrashed,
                    format!("no run process could be had: {other}; try again"),
                ))
            }
        })?;
        self.laps.end(&app.metrics, Stage::Lease);
        Ok(Ready::Execute { slot, lease: Box::new(lease), start: self.start(&code, checked) })
    }

    fn start(&self, code: &Code, checked: Checked) -> Start {
        let args: Vec<WireValue> = checked.args.iter().map(outcome::to_wire).collect();
        Start {
            export: self.request.entry.name.clone(),
            args,
            start_export: code.start_export.clone(),
            mem_pages_max: self.policy.settings.limits.mem_pages,
        }
    }

    /// `late`: it was held back after its beginning had been stored.
    fn mark_running(&self, app: &App, late: bool) {
        let mut record = self.live.record.lock();
        record.status = Status::Running;
        if late || record.started_at.is_none() {
            record.started_at = Some(Timestamp(app.store.now_ms()));
        }
    }

    /// Records, counts and publishes the end.
    async fn finish(&self, app: &App, outcome: Outcome) {
        let row = {
            let mut record = self.live.record.lock();
            record.status = outcome.status.unwrap_or(Status::Error);
            record.reason = outcome.reason;
            record.error = outcome.error;
            record.result = outcome.result;
            record.usage = outcome.usage;
            record.finished_at = Some(Timestamp(app.store.now_ms()));
            RunRow::new(&self.tenant, &record)
        };
        let (status, usage) = { (outcome.status.unwrap_or(Status::Error), outcome.usage) };
        if let Some(reason) = outcome.reason {
            app.metrics.violation(reason);
        }
        app.metrics.run_ended(status, self.mode, Duration::from_millis(usage.wall_ms));
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                // Strings, numbers and maps with string keys always are JSON.
                tracing::error!(%error, "a record could not be written");
                return;
            }
        };
        let json = row.json();
        let change = match self.stored.get() {
            Stored::Nothing => Change::Accept(Box::new(Accept::ended(row))),
            Stored::Accepted | Stored::Running => Change::Ended(Box::new(row)),
        };
        if let Err(error) = app.store.submit(Batch::new().with(change).until_committed()).await {
            tracing::error!(run_id = %self.id, %error, "the end of a run could not be stored");
        }
        self.live.publish(json);
        app.runs.remove(self.id);
    }

    async fn accept(&self, app: &App, key: Option<Reservation>) -> Result<(), void_store::WriteError> {
        let accept = self.row(key)?;
        app.store.submit(Batch::new().with(Change::Accept(Box::new(accept)))).await?;
        self.stored.set(Stored::Accepted);
        Ok(())
    }

    /// Stores a run that was not stored at its acceptance. Its beginning, where it has not begun, is stored after this.
    fn store_unheard(&self, app: &App) {
        let running = self.live.record.lock().status == Status::Running;
        match self.row(None) {
            Ok(accept) => {
                // Batches are committed in their order, and the end of the run waits for its own.
                drop(app.store.submit(Batch::new().with(Change::Accept(Box::new(accept))).until_committed()));
                self.stored.set(if running { Stored::Running } else { Stored::Accepted });
            }
            Err(error) => tracing::error!(run_id = %self.id, %error, "a run could not be stored"),
        }
    }

    fn row(&self, key: Option<Reservation>) -> Result<Accept, void_store::WriteError> {
        let row = RunRow::new(&self.tenant, &self.live.record.lock())
            .map_err(|error| void_store::WriteError::Io(error.to_string()))?;
        let request = Bytes::from(self.request.to_json());
        Ok(Accept::queued(row, request, self.policy.blob(), key))
    }

    async fn store_started(&self, app: &App) -> Result<(), Box<Outcome>> {
        let at = app.store.now_ms();
        self.live.record.lock().started_at = Some(Timestamp(at));
        let change = Change::Started { run_id: self.id, at };
        app.store.submit(Batch::new().with(change).until_committed()).await.map(drop).map_err(|error| {
            Box::new(Outcome::error(
                Reason::Internal,
                format!("the run's beginning could not be stored: {error}"),
            ))
        })
    }
}

enum Ready {
    Execute { slot: crate::slots::Slot, lease: Box<Lease>, start: Start },
    DryRun,
}

async fn store_frozen(
    app: &App,
    tenant: &Arc<str>,
    record: &RunRecord,
    key: Option<Reservation>,
) -> Result<(), Problem> {
    let row = RunRow::new(tenant, record).map_err(|error| unavailable(&error))?;
    let accept = Accept::queued(row, Bytes::new(), Bytes::new(), key);
    let batch = Batch::new().with(Change::Accept(Box::new(accept)));
    app.store.submit(batch).await.map(drop).map_err(|error| unavailable(&error))
}

fn cached(app: &App, tenant: &str, run_id: RunId) -> Submitted {
    Submitted { run_id, mode: Mode::Cached, warning: None, live: app.runs.get(tenant, run_id), unheard: None }
}

fn source(module: &void_module::Module) -> String {
    match &module.fetched_from {
        Some(from) => format!("{}: {from}", module.source),
        None => module.source.to_string(),
    }
}

fn not_compiled(error: CompileError) -> Box<Outcome> {
    let reason = match &error {
        CompileError::Invalid(_) => Reason::ModuleInvalid,
        CompileError::Budget(_) => Reason::CompileBudget,
        CompileError::Crashed(_) | CompileError::Unavailable(_) => Reason::WorkerCrashed,
        CompileError::Refused(_) => Reason::Internal,
    };
    Box::new(Outcome::error(reason, format!("the module could not be compiled: {error}")))
}

fn random() -> Result<u128, Problem> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| unavailable(&error))?;
    Ok(u128::from_le_bytes(bytes))
}
