//! Refused calls, told to the log, which a guest cannot flood. Nor can it hide a refusal there behind others: some lines are
//! kept for what is the first by its rule in a run, of each tenant, and how many got no line is said a moment later.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use void_api::RunId;
use void_policy::judge::Denial;
use void_policy::rate::TokenBucket;

use super::denials::News;

/// Lines a second, and at once, whatever it is.
const LINES: (u32, u32) = (8, 40);
/// As many more of each tenant for what is the first by its rule in its run.
const FIRSTS: (u32, u32) = (2, 10);
/// Tenants whose lines are counted apart. There are as many as the operator names; beyond, all are counted anew.
const TENANTS: usize = 1_000;
/// After how long it is said how many had no line.
pub(super) const SAID_AFTER: Duration = Duration::from_secs(1);

/// The log of refusals of all runs.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    lines: TokenBucket,
    firsts: HashMap<Box<str>, TokenBucket>,
    left_out: u64,
}

impl Inner {
    fn firsts_of(&mut self, tenant: &str) -> &mut TokenBucket {
        if !self.firsts.contains_key(tenant) && self.firsts.len() >= TENANTS {
            self.firsts.clear();
        }
        self.firsts.entry(tenant.into()).or_default()
    }
}

impl Log {
    /// Writes a line, as long as there were not too many lately. Whether [`Log::say_left_out`] is to be called, after
    /// [`SAID_AFTER`]: somebody else will not.
    #[must_use]
    pub(super) fn denied(
        &self,
        now_ns: u64,
        (run_id, tenant): (RunId, &str),
        news: News,
        denial: &Denial,
    ) -> bool {
        {
            let inner = &mut *self.0.lock();
            let take = |bucket: &mut TokenBucket, (a_second, at_once)| {
                bucket.take(now_ns, a_second, at_once).is_ok()
            };
            let told = match news {
                News::Rule => take(inner.firsts_of(tenant), FIRSTS) || take(&mut inner.lines, LINES),
                News::Reason => take(&mut inner.lines, LINES),
                // It has its line.
                News::Nothing => return false,
            };
            if !told {
                inner.left_out += 1;
                return inner.left_out == 1;
            }
        }
        tracing::warn!(
            %run_id,
            tenant,
            call = denial.kind().as_str(),
            rule = denial.rule().as_str(),
            reason = denial.reason(),
            remedy = denial.remedy(),
            "a gateway call was denied"
        );
        false
    }

    /// Says how many refusals had no line.
    pub(super) fn say_left_out(&self) {
        let left_out = std::mem::take(&mut self.0.lock().left_out);
        tracing::warn!(
            left_out,
            "gateway calls were denied too fast for a line each: the runs' records and void_wasm_policy_denied_total have them"
        );
    }
}
