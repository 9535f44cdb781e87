//! One run as a straight line: admitted, recorded, resolved, compiled, checked, placed, begun, followed, concluded, recorded.
//!
//! ```text
//! submit ── policy admits ── store accepts ──▶ answered 202
//!    └─▶ execute: resolve ─ code ─ check ─ slot ─ lease ─ begin ─ follow ─ conclude ─▶ store, events, metrics, answer
//! ```
//! What a client was told survives the process: an acceptance that was answered is in the store before the
//! answer, and so is a run's beginning before its guest runs. Where a run can begin at once, the two are stored in one
//! step. A run whose client waits for the end and has been told nothing yet is stored when it ends, or when it takes
//! longer than a moment.

mod look_up;
mod refusals;
mod stored;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use void_api::{ExecRequest, Mode, Problem, Reason, RunId, RunRecord, Status, Target, Timestamp};
use void_ipc::message::{Start, Value as WireValue, WasiStart};
use void_policy::admission::{Admission, Bucket, admit};
use void_store::{Accept, Batch, Change, Expected, Reserve};

use crate::app::App;
use crate::check::{self, Checked};
use crate::compile::{Code, CompileError};
use crate::gateway::{Gateway, Outbox};
use crate::lane::Lane;
use crate::metrics::{self, Laps, Stage};
use crate::outcome::{self, Outcome};
use crate::pool::{self, Key, Lease, LeaseError};
use crate::random;
use crate::runs::LiveRun;
use crate::settings::Snapshot;
use crate::slots::Queued;
use crate::worker::{self, Budget, Places};
pub(crate) use look_up::{cancel, record};
pub(crate) use refusals::disabled;
use refusals::{draining, mismatch, queue_full, unavailable};
use stored::{Owed, Stored, store_frozen};

/// A run that nobody was told of is stored all the same when it takes longer than this.
const MOMENT: Duration = Duration::from_millis(300);

/// What a WASI guest finds as its own name where the request gives no argv.
const PROGRAM: &str = "module";

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
    /// Events of the guest on their way to the store.
    outbox: Outbox,
    owed: Cell<Option<Owed>>,
    /// Its end will be stored soon.
    expected: Cell<Option<Expected>>,
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
    let now_ms = app.store.now_ms();
    let id = app.run_ids.next(now_ms, random::number().map_err(|error| unavailable(&error))?);
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
    let (target, entry) = (request.target.clone(), request.entry.to_string());
    let mut record = RunRecord::accepted(id, Timestamp(now_ms), mode, target, entry);
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
    // A run with a key must be known before its guest runs, or the same request would begin another one after a crash.
    // As long as the storage fails nothing may run that could not be recorded: then each run is stored first.
    let first = promise == Promise::Accept || reservation.is_some() || app.store.is_failing();
    let patience = if promise == Promise::Answer { MOMENT } else { Duration::ZERO };
    let (told, stored) = oneshot::channel();
    let run = Run {
        id,
        outbox: Outbox::new(&tenant, id),
        tenant,
        request,
        policy,
        mode,
        live: Arc::clone(&live),
        stored: Cell::new(Stored::Nothing),
        owed: Cell::new(first.then_some(Owed::new(reservation, patience, told))),
        expected: Cell::new(Some(app.store.expect())),
        laps,
    };
    app.runs.insert(id, Arc::clone(&live));
    // A task of its own from here on: a client that hangs up must not leave a run stored and not begun.
    lane.spawn(run.go(Rc::clone(lane), queued));
    if !first {
        let unheard = Some(Unheard(Some(Arc::clone(&live))));
        return Ok(Submitted { run_id: id, mode, warning: None, live: Some(live), unheard });
    }
    match stored.await {
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
        outbox: Outbox::new(&pending.tenant, id),
        tenant: pending.tenant,
        request: pending.request,
        policy: pending.policy,
        mode: pending.record.mode,
        live,
        stored: Cell::new(Stored::Accepted),
        owed: Cell::new(None),
        expected: Cell::new(Some(lane.app.store.expect())),
        laps: Laps::begin(),
    };
    lane.spawn(run.go(Rc::clone(lane), queued));
}

impl Run {
    /// From acceptance to the published record.
    async fn go(self, lane: Rc<Lane>, queued: Queued) {
        let app = &lane.app;
        let (outcome, lease) = {
            let executed = self.soon_or_unexpected(self.execute(&lane, queued));
            tokio::pin!(executed);
            let at_once = tokio::select! {
                biased;
                end = &mut executed => Some(end),
                () = self.patience() => None,
            };
            match at_once {
                Some(end) => end,
                None => {
                    self.store_acceptance(app).await;
                    match self.stored.get() {
                        Stored::Refused => (Outcome::default(), None),
                        Stored::Nothing | Stored::Accepted | Stored::Running => executed.await,
                    }
                }
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
        let (slot, lease, start, mem_pages_min) = match ready {
            Ok(Ready::Execute { slot, lease, start, mem_pages_min }) => (slot, *lease, *start, mem_pages_min),
            Ok(Ready::DryRun) => return (Outcome::dry_run(), None),
            Err(outcome) => return (*outcome, None),
        };
        let stdin = start.wasi.as_ref().and(self.request.stdin.clone());
        let command = start.wasi.is_some() && start.export == "_start";
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
        let limits = &self.policy.settings.limits;
        let budget = Budget {
            cpu: Duration::from_millis(limits.cpu_ms),
            wall: Duration::from_millis(limits.wall_ms),
            nice: slot.nice(),
            output: limits.output_max_bytes,
        };
        let _busy = lane.app.metrics.busy(metrics::Role::Run);
        let places = Places { home: &lane.home, everywhere: &lane.everywhere };
        let make_room = || self.send_events(&lane.app);
        let gateway =
            Gateway::new(&lane.app, (self.id, &self.tenant), &self.policy, &self.outbox, &make_room);
        let takes_long = || drop(self.expected.take());
        let facts = {
            let follow = worker::follow(&lease, begun, budget, &self.live, places, gateway, &takes_long);
            tokio::pin!(follow);
            match stdin {
                None => follow.await,
                Some(stdin) => tokio::select! {
                    biased;
                    facts = &mut follow => facts,
                    () = lease.feed(&stdin) => follow.await,
                },
            }
        };
        self.laps.end(&lane.app.metrics, Stage::Run);
        drop(slot);
        let mut outcome = outcome::conclude(facts, limits, command);
        // A run that was killed had at least what its module begins with.
        outcome.usage.mem_pages = outcome.usage.mem_pages.max(mem_pages_min);
        (outcome, Some(lease))
    }

    /// Lets the guest run, once it may, and once the store knows that it does where it knows of the run at all.
    async fn begin(&self, lane: &Rc<Lane>, lease: &Lease, start: Start) -> Result<Instant, Box<Outcome>> {
        let app = &lane.app;
        loop {
            drop(app.slots.may_begin().await);
            if self.is_known() && self.stored.get() != Stored::Running {
                self.store_beginning(app).await?;
            }
            // From here to the request on its way there is no await: a freeze waits for it, or stops it.
            let Some(held) = app.slots.may_begin_now() else {
                if self.stored.get() == Stored::Running {
                    // A freeze came while that was stored. After a restart the run is to be executed, so it has not begun.
                    self.store_held_back(app).await;
                }
                continue;
            };
            // Its acceptance was stored while it waited: then its beginning is to be stored first.
            if self.is_known() && self.stored.get() != Stored::Running {
                continue;
            }
            let begun = worker::begin(lease, start);
            if begun.is_ok() {
                if self.stored.get() == Stored::Running {
                    self.outbox.open();
                }
                self.mark_running(app);
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
        self.live.record.lock().source = Some(source(&module, &self.request.target));
        let code =
            app.compiler.code(&self.tenant, module.sha256, &module.bytes).await.map_err(not_compiled)?;
        let checked = check::check(&code, &self.request, &self.policy.settings.limits)?;
        if self.mode == Mode::DryRun {
            return Ok(Ready::DryRun);
        }
        self.laps.end(&app.metrics, Stage::Prepare);
        let asked = Instant::now();
        let slot = app.slots.acquire(&self.tenant).await;
        app.metrics.queue_wait(asked.elapsed());
        let limits = &self.policy.settings.limits;
        let key = Key {
            tenant: Arc::clone(&self.tenant),
            sha256: module.sha256,
            mem_pages_max: limits.mem_pages,
            cpu_seconds_max: pool::cpu_seconds_max(limits.cpu_ms),
        };
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
        let start = Box::new(self.start(&code, checked)?);
        Ok(Ready::Execute { slot, lease: Box::new(lease), start, mem_pages_min: code.memory_pages })
    }

    fn start(&self, code: &Code, checked: Checked) -> Result<Start, Box<Outcome>> {
        let args: Vec<WireValue> = checked.args.iter().map(outcome::to_wire).collect();
        Ok(Start {
            export: self.request.entry.name.clone(),
            args,
            first: check::calls_before(code, &self.request.entry.name),
            mem_pages_max: self.policy.settings.limits.mem_pages,
            wasi: if check::uses_wasi(code) { Some(self.wasi()?) } else { None },
        })
    }

    fn wasi(&self) -> Result<WasiStart, Box<Outcome>> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| {
            Box::new(Outcome::error(Reason::Internal, format!("the kernel gave no random numbers: {error}")))
        })?;
        let request = &self.request;
        // Programs expect their name to be there.
        let argv = if request.argv.is_empty() { vec![PROGRAM.to_owned()] } else { request.argv.clone() };
        let env = request.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        // A body is at most a MiB, and so is what it holds.
        let stdin_bytes = u32::try_from(request.stdin.as_deref().unwrap_or_default().len()).unwrap_or(0);
        Ok(WasiStart { argv, env, stdin_bytes, seed })
    }

    fn mark_running(&self, app: &App) {
        let mut record = self.live.record.lock();
        record.status = Status::Running;
        record.started_at.get_or_insert_with(|| Timestamp(app.store.now_ms()));
    }

    /// Records, counts and publishes the end.
    async fn finish(&self, app: &App, outcome: Outcome) {
        drop(self.expected.take());
        let row = {
            let mut record = self.live.record.lock();
            record.status = outcome.status.unwrap_or(Status::Error);
            record.reason = outcome.reason;
            record.error = outcome.error;
            record.result = outcome.result;
            record.usage = outcome.usage;
            let [stdout, stderr] = outcome.written;
            (record.stdout, record.stdout_truncated) =
                stdout.map_or((None, false), |(text, cut)| (Some(text), cut));
            (record.stderr, record.stderr_truncated) =
                stderr.map_or((None, false), |(text, cut)| (Some(text), cut));
            record.exit_code = outcome.exit_code;
            record.denials = outcome.denials;
            record.finished_at = Some(Timestamp(app.store.now_ms()));
            self.row(&record)
        };
        let Some(row) = row else { return app.runs.remove(self.id) };
        let json = row.json();
        let emits = self.outbox.take();
        let ended = match (self.stored.get(), self.owed.take()) {
            (Stored::Refused, _) => false,
            // Its guest has not begun, so it has emitted nothing.
            (Stored::Nothing, Some(owed)) => self.store_first(app, owed, Accept::ended(row)).await,
            (Stored::Nothing, None) => self.store_end(app, Accept { emits, ..Accept::ended(row) }).await,
            (Stored::Accepted | Stored::Running, _) => {
                let emits = Batch::emits(&self.tenant, self.id, emits);
                self.store_end(app, emits.with(Change::Ended(Box::new(row)))).await
            }
        };
        if ended {
            let status = outcome.status.unwrap_or(Status::Error);
            if let Some(reason) = outcome.reason {
                app.metrics.violation(reason);
            }
            app.metrics.run_ended(status, self.mode, outcome.executed);
            self.live.publish(json);
        }
        app.runs.remove(self.id);
    }
}

enum Ready {
    Execute { slot: crate::slots::Slot, lease: Box<Lease>, start: Box<Start>, mem_pages_min: u64 },
    DryRun,
}

fn cached(app: &App, tenant: &str, run_id: RunId) -> Submitted {
    Submitted { run_id, mode: Mode::Cached, warning: None, live: app.runs.get(tenant, run_id), unheard: None }
}

/// Where the bytes came from; and which they are, where the target does not say so.
fn source(module: &void_module::Module, target: &Target) -> String {
    let mut source = match &module.fetched_from {
        Some(from) => format!("{}: {from}", module.source),
        None => module.source.to_string(),
    };
    if matches!(target, Target::AstHash(_)) {
        source.push_str(" gives ");
        source.push_str(&module.cid);
    }
    source
}

fn not_compiled(error: CompileError) -> Box<Outcome> {
    let reason = match &error {
        CompileError::Invalid(_) => Reason::ModuleInvalid,
        CompileError::Budget(_) | CompileError::Late(_) => Reason::CompileBudget,
        CompileError::Crashed(_) | CompileError::Unavailable(_) => Reason::WorkerCrashed,
        CompileError::Refused(_) => Reason::Internal,
    };
    Box::new(Outcome::error(reason, format!("the module could not be compiled: {error}")))
}
