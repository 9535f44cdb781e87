//! Sources over the network: what they share. Each attempt is bounded in time and bytes, and a source that fails is
//! left out for a while. What a remote side writes never reaches an answer; only status codes do.

mod client;
mod gateway;
mod kubo;
mod walk;

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use crate::answer::{Miss, SourceKind};
use crate::cooling::Cooling;
use crate::source::{Fetch, Found, Source};
use crate::want::Want;

pub(crate) use gateway::Gateway;
pub(crate) use kubo::Kubo;

/// Why a request did not deliver, and how long the source asked to be left alone.
#[derive(Debug)]
pub(crate) struct Refusal {
    miss: Miss,
    /// The status that it answered with, where that is what refused.
    status: Option<u16>,
    pause: Option<Duration>,
}

impl From<Miss> for Refusal {
    fn from(miss: Miss) -> Self {
        Self { miss, status: None, pause: None }
    }
}

/// How one kind of remote source is asked.
pub(crate) trait Protocol: Send + Sync {
    fn kind(&self) -> SourceKind;
    fn name(&self) -> &str;
    fn get<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Found, Refusal>>;
}

/// A remote source with its health and its time-out.
pub(crate) struct Remote<P> {
    protocol: P,
    timeout: Duration,
    cooling: Cooling,
}

impl<P: Protocol> Remote<P> {
    pub(crate) fn new(protocol: P, timeout: Duration) -> Self {
        Self { protocol, timeout, cooling: Cooling::default() }
    }

    async fn ask(&self, want: &Want, tenant: &str) -> Result<Found, Miss> {
        let begun = Instant::now();
        if let Some(left) = self.cooling.left_out(begun, tenant) {
            let seconds = left.as_secs() + 1;
            return Err(Miss::LeftOut(format!("failed before and is left out for {seconds} s more")));
        }
        let answer = tokio::time::timeout(self.timeout, self.protocol.get(want)).await;
        let refusal = match answer {
            Ok(Ok(found)) => {
                self.cooling.answered(tenant);
                return Ok(found);
            }
            Ok(Err(refusal)) => refusal,
            Err(_) => {
                let ms = self.timeout.as_millis();
                Miss::Silent(format!("did not deliver within {ms} ms")).into()
            }
        };
        match &refusal.miss {
            // The answer of a healthy source. A DAG out of bounds is the DAG's fault: its blocks were verified.
            Miss::Absent(_) | Miss::Invalid(_) => self.cooling.answered(tenant),
            Miss::Down(_) => self.cooling.failed(begun, Instant::now(), refusal.pause),
            // It may be so for that one name, and a tenant chooses what is asked for.
            Miss::Failed(_) | Miss::Silent(_) | Miss::Lied(_) | Miss::TooLarge(_) => {
                self.cooling.unhelpful(Instant::now(), tenant, refusal.pause);
            }
            // Never a remote source's.
            Miss::LeftOut(_) | Miss::Unlisted(_) => {}
        }
        Err(refusal.miss)
    }
}

impl<P: Protocol> Source for Remote<P> {
    fn kind(&self) -> SourceKind {
        self.protocol.kind()
    }

    fn name(&self) -> &str {
        self.protocol.name()
    }

    fn fetch<'a>(&'a self, want: &'a Want, tenant: &'a str) -> Fetch<'a> {
        Box::pin(self.ask(want, tenant))
    }
}
