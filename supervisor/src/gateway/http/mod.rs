//! `http.fetch`: one permitted request, its redirects, and the answer as far as it may be read.
//!
//! ```text
//! permit ─ secrets ─ resolve once ─ addresses judged ─ connect to one of them ─ answer ─ body, cut at its limit
//!    ▲                                                           └─ redirect: judged afresh
//!    └──────────────────────────────────────────────────────────────────┘
//! ```
//! Fetching has threads of its own: TLS, decompression and other people's slowness stay away from the lanes. No connection
//! is used twice, so that none that was made for one request, with its addresses judged, serves another.

mod body;
mod connect;
mod encoding;
mod resolve;

use std::sync::Arc;

use reqwest::Response;
use reqwest::header::LOCATION;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use void_ipc::message::Refusal;
use void_policy::Tenant;
use void_policy::judge::{FetchPermit, Terms};
use void_policy::secrets::Redactor;

use super::{Failure, Performed, Work};
use crate::app::App;
use crate::metrics::Fetched;
use crate::settings::Snapshot;
use connect::Connector;
use resolve::Resolver;

/// Threads that fetch. They wait nearly always.
const THREADS: usize = 2;

/// What all fetches share.
#[derive(Debug)]
pub(super) struct Fetcher {
    /// Taken out at the end: a runtime must not be dropped by a thread of another one.
    runtime: Option<Runtime>,
    connector: Connector,
    resolver: Resolver,
}

impl Fetcher {
    pub(super) fn start() -> std::io::Result<Fetcher> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(resolve::LOOK_UPS)
            .thread_name("fetch")
            .enable_all()
            .build()?;
        Ok(Fetcher { runtime: Some(runtime), connector: Connector::default(), resolver: Resolver::default() })
    }

    fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Option<Task<T>> {
        self.runtime.as_ref().map(|runtime| Task(runtime.spawn(task)))
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A fetch on its way. Dropped, it is broken off.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Fetches.
pub(super) fn perform(app: &Arc<App>, tenant: &Tenant, policy: &Arc<Snapshot>, permit: FetchPermit) -> Work {
    let journey = Journey {
        app: Arc::clone(app),
        tenant: tenant.clone(),
        policy: Arc::clone(policy),
        redactor: Redactor::default(),
    };
    let task = app.gateway.fetcher.spawn(journey.go(permit));
    Box::pin(async move {
        let Some(mut task) = task else { return Err(Failure::Failed(Refusal::Unavailable)) };
        (&mut task.0).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a fetch ended without a word");
            Err(Failure::Failed(Refusal::Unavailable))
        })
    })
}

/// One request with all its redirects.
struct Journey {
    app: Arc<App>,
    tenant: Tenant,
    policy: Arc<Snapshot>,
    /// The secrets that were sent on the way.
    redactor: Redactor,
}

impl Journey {
    async fn go(mut self, permit: FetchPermit) -> Performed {
        let performed = self.follow(permit).await;
        self.app.metrics.fetches().ended(match &performed {
            Ok(_) => None,
            Err(Failure::Denied(_)) => Some(Fetched::Denied),
            Err(Failure::Failed(Refusal::TimedOut)) => Some(Fetched::TimedOut),
            Err(Failure::Failed(Refusal::TooLarge)) => Some(Fetched::TooLarge),
            Err(Failure::Failed(_)) => Some(Fetched::Unreachable),
        });
        performed
    }

    async fn follow(&mut self, mut permit: FetchPermit) -> Performed {
        loop {
            let response = self.ask(&permit).await?;
            let status = response.status().as_u16();
            match response.headers().get(LOCATION) {
                Some(location) if matches!(status, 301 | 302 | 303 | 307 | 308) => {
                    let location = String::from_utf8_lossy(location.as_bytes());
                    permit = self.redirect(&permit, status, &location)?;
                }
                _ => {
                    let answer = body::read(response, &permit, &self.redactor, &self.app.metrics).await?;
                    self.app.metrics.fetches().answered(status);
                    return Ok(answer);
                }
            }
        }
    }

    /// Sends one request, to one of the addresses that policy permits.
    async fn ask(&mut self, permit: &FetchPermit) -> Result<Response, Failure> {
        // Those in force now: a secret that was replaced is not to be sent any more.
        let outgoing = permit.outgoing(&self.app.settings.now().secrets)?;
        outgoing.secrets().iter().for_each(|(header, value)| self.redactor.add(header, value));
        let fetcher = &self.app.gateway.fetcher;
        let resolved = match (permit.literal(), permit.name()) {
            (Some(address), _) => vec![address],
            (None, Some(name)) => fetcher.resolver.resolve(&self.tenant, name).await?,
            (None, None) => Vec::new(),
        };
        let connect = permit.connect(&resolved)?;
        fetcher
            .connector
            .send(permit, &outgoing, &connect, self.app.metrics.fetches())
            .await
            .map_err(Failure::Failed)
    }

    fn redirect(&self, permit: &FetchPermit, status: u16, location: &str) -> Result<FetchPermit, Failure> {
        let settings = &self.policy.settings;
        let terms = Terms { tenant: &self.tenant, grants: &settings.grants, limits: &settings.limits };
        let shared = &self.app.gateway;
        Ok(permit.redirect(terms, &shared.rates, shared.now_ns(), status, location, &self.redactor)?)
    }
}
