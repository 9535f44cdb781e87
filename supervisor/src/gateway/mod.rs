//! The gateway of one run: each call is counted and judged by policy, and what policy permits is performed here, and
//! nothing else is. `emit`, `kv` and `http` take a permit and perform it; they cannot be given anything else.
//!
//! ```text
//! wire call ─ ask ─▶ policy: count, judge ─▶ permit ─▶ performed ─▶ answer
//!                              └─▶ denial ─▶ record, log, metric ─▶ a code for the guest
//! ```
//! Deciding must not enter, nor anything of phases and sockets: `worker` drives those.

mod answer;
mod ask;
mod denials;
mod emit;
mod http;
mod kv;
mod log;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use void_api::{CallKind, Decision, DenialNote, RunId};
use void_ipc::message::Refusal;
use void_policy::Tenant;
use void_policy::judge::{self, Call, Denial, Permit, Spent, Terms};
use void_policy::rate::HttpRates;

use crate::app::App;
use crate::metrics::{Fetched, Metrics};
use crate::settings::Snapshot;
pub(crate) use answer::Answer;
use answer::refusal;
pub(crate) use ask::ask;
use denials::Denials;
pub(crate) use emit::{FLUSH_AFTER, Outbox};
use http::Fetcher;
use log::Log;

/// What the gateways of all runs share.
#[derive(Debug)]
pub(crate) struct Shared {
    started: Instant,
    rates: HttpRates,
    fetcher: Fetcher,
    log: Log,
}

impl Shared {
    /// Starts the threads that fetch.
    ///
    /// # Errors
    /// The kernel's, when a thread cannot be started.
    pub(crate) fn start() -> std::io::Result<Shared> {
        Ok(Shared {
            started: Instant::now(),
            rates: HttpRates::default(),
            fetcher: Fetcher::start()?,
            log: Log::default(),
        })
    }

    /// Nanoseconds of a clock that does not jump.
    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Why a permitted call was not done.
#[derive(Debug)]
enum Failure {
    /// Policy has its say also after the permit: an address, a redirect, a full namespace.
    Denied(Box<Denial>),
    /// It could not be done.
    Failed(Refusal),
}

impl From<Denial> for Failure {
    fn from(denial: Denial) -> Failure {
        Failure::Denied(Box::new(denial))
    }
}

type Performed = Result<Answer, Failure>;
type Work = Pin<Box<dyn Future<Output = Performed>>>;

/// A call under way. Dropped, it is given up, and counted as what it was: allowed.
pub(crate) struct Pending {
    kind: CallKind,
    work: Work,
    /// Where it is to be counted if it is given up.
    metrics: Option<Metrics>,
}

impl Pending {
    /// Waits for it; what is returned goes to [`Gateway::settle`].
    pub(crate) async fn done(&mut self) -> Done {
        let performed = (&mut self.work).await;
        self.metrics = None;
        Done { kind: self.kind, performed }
    }

    /// The same without waiting, where it is over.
    pub(crate) fn done_now(&mut self) -> Option<Done> {
        let mut done = std::pin::pin!(self.done());
        match done.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(metrics) = self.metrics.take() {
            metrics.call(self.kind, Decision::Allow);
            if self.kind == CallKind::HttpFetch {
                metrics.fetches().ended(Some(Fetched::GivenUp));
            }
        }
    }
}

/// A call that is over and not counted yet.
pub(crate) struct Done {
    kind: CallKind,
    performed: Performed,
}

/// What becomes of a call.
pub(crate) enum Step {
    /// It is answered.
    Answer(Answer),
    /// It takes its time.
    Wait(Pending),
    /// The run ends by it.
    End,
}

/// One run's gateway.
pub(crate) struct Gateway<'r> {
    app: &'r Arc<App>,
    run_id: RunId,
    tenant: Tenant,
    policy: &'r Arc<Snapshot>,
    spent: Spent,
    denials: Denials,
    outbox: &'r Outbox,
    /// Sends what is in the outbox to the store, after the run itself where that is not there yet.
    make_room: &'r dyn Fn() -> Option<void_store::Commit>,
}

impl<'r> Gateway<'r> {
    /// The gateway of a run that has spent nothing yet.
    pub(crate) fn new(
        app: &'r Arc<App>,
        (run_id, tenant): (RunId, &str),
        policy: &'r Arc<Snapshot>,
        outbox: &'r Outbox,
        make_room: &'r dyn Fn() -> Option<void_store::Commit>,
    ) -> Gateway<'r> {
        // Tenants are named by the tokens file, which policy has read.
        let tenant = Tenant::new(tenant).unwrap_or_else(Tenant::default_tenant);
        let (spent, denials) = (Spent::default(), Denials::default());
        Gateway { app, run_id, tenant, policy, spent, denials, outbox, make_room }
    }

    /// Takes a call: counted, judged, and performed or begun.
    pub(crate) fn take(&mut self, call: Call) -> Step {
        let kind = call.kind();
        let settings = &self.policy.settings;
        let terms = Terms { tenant: &self.tenant, grants: &settings.grants, limits: &settings.limits };
        let shared = &self.app.gateway;
        match judge::judge(terms, &mut self.spent, &shared.rates, shared.now_ns(), call) {
            Ok(permit) => self.perform(kind, permit),
            Err(denial) if denial.ends_run() => {
                self.deny(kind, &denial);
                Step::End
            }
            Err(denial) => Step::Answer(self.settle(Done { kind, performed: Err(denial.into()) })),
        }
    }

    fn perform(&mut self, kind: CallKind, permit: Permit) -> Step {
        let app = self.app;
        let work = match permit {
            Permit::Emit(permit) => {
                let emitted = emit::perform(&permit, app.store.now_ms(), self.outbox, self.make_room);
                match emitted {
                    Ok(performed) => return Step::Answer(self.settle(Done { kind, performed })),
                    Err(work) => work,
                }
            }
            Permit::KvGet(permit) => match kv::known(&app.store, &permit) {
                Ok(answer) => return Step::Answer(self.settle(Done { kind, performed: Ok(answer) })),
                Err(key) => kv::get(app, key),
            },
            Permit::KvSet(permit) => kv::set(app, permit),
            Permit::KvDelete(permit) => kv::delete(app, &permit),
            Permit::Fetch(permit) => http::perform(app, &self.tenant, self.policy, *permit),
        };
        Step::Wait(Pending { kind, work, metrics: Some(app.metrics.clone()) })
    }

    /// Counts a call that is over, and gives the guest's answer.
    pub(crate) fn settle(&mut self, Done { kind, performed }: Done) -> Answer {
        match performed {
            Ok(answer) => {
                self.app.metrics.call(kind, Decision::Allow);
                answer
            }
            Err(Failure::Denied(denial)) => {
                self.deny(kind, &denial);
                Answer::refused(refusal(denial.rule()))
            }
            Err(Failure::Failed(refusal)) => {
                self.app.metrics.call(kind, Decision::Error);
                Answer::refused(refusal)
            }
        }
    }

    /// The run has ended under a call: what came of it all the same is counted as that.
    pub(crate) fn give_up(&mut self, mut pending: Pending) {
        if let Some(done) = pending.done_now() {
            self.settle(done);
        }
    }

    fn deny(&mut self, kind: CallKind, denial: &Denial) {
        let metrics: &Metrics = &self.app.metrics;
        metrics.call(kind, denial.decision());
        metrics.denied(kind, denial.rule());
        let news = self.denials.note(denial);
        let shared = &self.app.gateway;
        if shared.log.denied(shared.now_ns(), (self.run_id, self.tenant.as_str()), news, denial) {
            let app = Arc::clone(self.app);
            tokio::spawn(async move {
                tokio::time::sleep(log::SAID_AFTER).await;
                app.gateway.log.say_left_out();
            });
        }
    }

    /// Calls made so far, the refused ones included.
    pub(crate) fn calls(&self) -> u64 {
        self.spent.calls()
    }

    /// Whether events wait that the store does not have yet.
    pub(crate) fn has_events(&self) -> bool {
        self.outbox.waits()
    }

    /// Sends them, where the run itself is in the store.
    pub(crate) fn flush(&self) {
        self.outbox.flush(&self.app.store);
    }

    /// The refused calls, for the record.
    pub(crate) fn into_denials(self) -> Vec<DenialNote> {
        self.denials.into_notes()
    }
}
