//! When a failing network source is left out, for whom, and for how long. Pure: the time is handed in.
//!
//! Two kinds of trouble are told apart. A *failure* is the source's own: it cannot be reached, breaks off, or answers with an
//! error. It is left out for all. *Silence* may be the question's: content that nobody has times out at the best gateway; and
//! other bytes than were asked for may be what it has under that name alone. So both are counted for each tenant, and the
//! source is left out for the tenant whose questions go unanswered so, and for no other: nobody can take a source from the
//! rest by what is asked for.
//! A source that is dead in silence, too, does not even accept a connection, which is a failure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The first pause; each further failure doubles it.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause that failures alone bring.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest pause that a source may ask for itself (`Retry-After`).
const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// The longest pause that silence brings.
const LONGEST_SILENT: Duration = Duration::from_secs(8);
/// Time-outs and wrong answers in a row that a tenant is forgiven, and one more is not.
const SILENCES: u32 = 2;
/// Tenants whose silences are remembered; there are as many as the operator has named, and this is beyond any.
const TENANTS: usize = 4096;

#[derive(Debug, Default)]
struct State {
    failures: u32,
    until: Option<Instant>,
    silent: HashMap<Box<str>, Silence>,
}

#[derive(Debug, Default)]
struct Silence {
    count: u32,
    until: Option<Instant>,
}

/// The health of one source.
#[derive(Debug, Default)]
pub(crate) struct Cooling {
    state: Mutex<State>,
}

/// The pause after so many failures before.
fn pause(failures: u32, longest: Duration) -> Duration {
    FIRST.saturating_mul(1 << failures.min(6)).min(longest)
}

impl Cooling {
    /// How much longer the source is left out for that tenant, if it is.
    pub(crate) fn left_out(&self, now: Instant, tenant: &str) -> Option<Duration> {
        let state = self.state.lock();
        let own = state.silent.get(tenant).and_then(|silence| silence.until);
        let until = state.until.max(own)?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// It answered that tenant as it should, be it with "no".
    pub(crate) fn answered(&self, tenant: &str) {
        let mut state = self.state.lock();
        (state.failures, state.until) = (0, None);
        state.silent.remove(tenant);
    }

    /// It failed; `asked` is the pause that it asked for.
    pub(crate) fn failed(&self, now: Instant, asked: Option<Duration>) {
        let mut state = self.state.lock();
        let doubled = pause(state.failures, LONGEST);
        let pause = asked.map_or(doubled, |asked| asked.clamp(doubled, LONGEST_ASKED));
        state.failures = state.failures.saturating_add(1);
        state.until = now.checked_add(pause);
    }

    /// It did not answer that tenant in time, or with other bytes.
    pub(crate) fn unhelpful(&self, now: Instant, tenant: &str) {
        let mut state = self.state.lock();
        if state.silent.len() >= TENANTS && !state.silent.contains_key(tenant) {
            state.silent.clear();
        }
        let silence = state.silent.entry(tenant.into()).or_default();
        if let Some(beyond) = silence.count.checked_sub(SILENCES) {
            silence.until = now.checked_add(pause(beyond, LONGEST_SILENT));
        }
        silence.count = silence.count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_end_with_an_answer() {
        let cooling = Cooling::default();
        let now = Instant::now();
        let seconds: Vec<u64> = (0..8)
            .map(|_| {
                cooling.failed(now, None);
                cooling.left_out(now, "anybody").unwrap().as_secs()
            })
            .collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(cooling.left_out(now + Duration::from_secs(60), "anybody"), None);
        cooling.answered("somebody");
        assert_eq!(cooling.left_out(now, "anybody"), None);
        cooling.failed(now, Some(Duration::from_secs(9999)));
        assert_eq!(cooling.left_out(now, "anybody"), Some(LONGEST_ASKED));
    }

    #[test]
    fn silence_is_forgiven_twice_and_then_costs_the_tenant_that_met_it() {
        let cooling = Cooling::default();
        let now = Instant::now();
        let seconds: Vec<Option<u64>> = (0..8)
            .map(|_| {
                cooling.unhelpful(now, "loud");
                cooling.left_out(now, "loud").map(|left| left.as_secs())
            })
            .collect();
        assert_eq!(seconds, [None, None, Some(1), Some(2), Some(4), Some(8), Some(8), Some(8)]);
        assert_eq!(cooling.left_out(now, "quiet"), None);
        // That others are answered says nothing of its questions.
        cooling.answered("quiet");
        assert!(cooling.left_out(now, "loud").is_some());
        cooling.answered("loud");
        assert_eq!(cooling.left_out(now, "loud"), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let cooling = Cooling::default();
        for number in 0..2 * TENANTS {
            cooling.unhelpful(Instant::now(), &number.to_string());
        }
        assert!(cooling.state.lock().silent.len() <= TENANTS);
    }
}
