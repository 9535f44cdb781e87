//! When a failing network source is left out, for whom, and for how long. Pure: the time is handed in.
//!
//! Two kinds of trouble are told apart. A *failure* is the source's own: it cannot be reached, or says that it has too much
//! to do. It is left out for all. What is *unhelpful* may be the question's: content that nobody has times out at the best
//! gateway; an error, a broken answer, other bytes or too many may be what it has under that name alone. So those are
//! counted for each tenant, and the source is left out for the tenant whose questions are answered so, and for no other:
//! nobody can take a source from the rest by what is asked for.
//! A source that is dead in silence, too, does not even accept a connection, which is a failure.
//!
//! Either has to come some times in a row, so that one bad moment costs no run but the one that met it. A source that says
//! itself for how long is believed at once: no shorter, whatever else is answered meanwhile, and no longer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Times in a row that are forgiven, and one more is not.
const FORGIVEN: u32 = 2;
/// The first pause; each further time doubles it.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause that failures alone bring.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest pause that a source may ask for itself (`Retry-After`).
const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// The longest pause that unhelpful answers alone bring.
const LONGEST_UNHELPFUL: Duration = Duration::from_secs(8);
/// Tenants that are remembered; there are as many as the operator has named, and this is beyond any.
const TENANTS: usize = 4096;

#[derive(Debug, Default)]
struct Row {
    count: u32,
    /// The end of the pause that the count brings.
    until: Option<Instant>,
    /// The end of the pause that the source asked for.
    asked: Option<Instant>,
}

impl Row {
    /// Once more; `asked` is the pause that the source asked for, `longest` the longest that comes without its asking.
    fn one_more(&mut self, now: Instant, asked: Option<Duration>, longest: Duration) {
        let doubled = self
            .count
            .checked_sub(FORGIVEN)
            .map(|beyond| FIRST.saturating_mul(1 << beyond.min(6)).min(longest));
        self.count = self.count.saturating_add(1);
        if asked.is_some() {
            self.ask(now, asked);
        } else if let Some(pause) = doubled {
            self.until = self.until.max(now.checked_add(pause));
        }
    }

    /// The source asked for a pause.
    fn ask(&mut self, now: Instant, asked: Option<Duration>) {
        self.asked = self.asked.max(asked.and_then(|pause| now.checked_add(pause.min(LONGEST_ASKED))));
    }

    /// What it asked for still holds.
    fn answered(&mut self) {
        (self.count, self.until) = (0, None);
    }

    fn left_out_until(&self) -> Option<Instant> {
        self.until.max(self.asked)
    }
}

/// "In no time" is no pause.
fn worth(asked: Option<Duration>) -> Option<Duration> {
    asked.filter(|pause| !pause.is_zero())
}

#[derive(Debug, Default)]
struct State {
    failures: Row,
    /// When the last one was counted.
    failed: Option<Instant>,
    unhelpful: HashMap<Box<str>, Row>,
}

/// The health of one source.
#[derive(Debug, Default)]
pub(crate) struct Cooling {
    state: Mutex<State>,
}

impl Cooling {
    /// How much longer the source is left out for that tenant, if it is.
    pub(crate) fn left_out(&self, now: Instant, tenant: &str) -> Option<Duration> {
        let state = self.state.lock();
        let own = state.unhelpful.get(tenant).and_then(Row::left_out_until);
        let until = state.failures.left_out_until().max(own)?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// It answered that tenant as it should, be it with "no".
    pub(crate) fn answered(&self, tenant: &str) {
        let mut state = self.state.lock();
        state.failures.answered();
        state.failed = None;
        if let Some(own) = state.unhelpful.get_mut(tenant) {
            own.answered();
            if own.asked.is_none() {
                state.unhelpful.remove(tenant);
            }
        }
    }

    /// It failed at a question of `begun`; `asked` is the pause that it asked for. Questions that were under way together
    /// met one moment, and count once.
    pub(crate) fn failed(&self, begun: Instant, now: Instant, asked: Option<Duration>) {
        let (mut state, asked) = (self.state.lock(), worth(asked));
        if state.failed.is_some_and(|last| begun < last) {
            state.failures.ask(now, asked);
            return;
        }
        state.failed = Some(now);
        state.failures.one_more(now, asked, LONGEST);
    }

    /// It did not answer that tenant in time, or with nothing of use; `asked` is the pause that it asked for.
    pub(crate) fn unhelpful(&self, now: Instant, tenant: &str, asked: Option<Duration>) {
        let (mut state, asked) = (self.state.lock(), worth(asked));
        if state.unhelpful.len() >= TENANTS && !state.unhelpful.contains_key(tenant) {
            state.unhelpful.clear();
        }
        state.unhelpful.entry(tenant.into()).or_default().one_more(now, asked, LONGEST_UNHELPFUL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_forgiven_twice_then_double_up_to_a_minute_and_end_with_an_answer() {
        let cooling = Cooling::default();
        let now = Instant::now();
        let seconds: Vec<Option<u64>> = (0..10)
            .map(|_| {
                cooling.failed(now, now, None);
                cooling.left_out(now, "anybody").map(|left| left.as_secs())
            })
            .collect();
        let doubled = [1, 2, 4, 8, 16, 32, 60, 60].map(Some);
        assert_eq!(seconds, [&[None, None], &doubled[..]].concat());
        assert_eq!(cooling.left_out(now + Duration::from_secs(60), "anybody"), None);
        cooling.answered("somebody");
        assert_eq!(cooling.left_out(now, "anybody"), None);
        cooling.failed(now, now, None);
        cooling.answered("somebody");
        cooling.failed(now, now, None);
        cooling.failed(now, now, None);
        assert_eq!(cooling.left_out(now, "anybody"), None, "not in a row");
    }

    #[test]
    fn questions_under_way_together_count_once() {
        let cooling = Cooling::default();
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        for now in [1, 1, 2, 2, 3] {
            cooling.failed(begun, at(now), None);
        }
        assert_eq!(cooling.left_out(at(3), "anybody"), None);
        cooling.failed(at(4), at(5), None);
        assert_eq!(cooling.left_out(at(5), "anybody"), None);
        cooling.failed(at(6), at(7), None);
        assert_eq!(cooling.left_out(at(7), "anybody"), Some(FIRST));
    }

    #[test]
    fn a_pause_that_is_asked_for_counts_at_once_and_within_bounds() {
        let now = Instant::now();
        let left = |asked: u64, times: usize| {
            let cooling = Cooling::default();
            (0..times).for_each(|_| cooling.failed(now, now, Some(Duration::from_secs(asked))));
            cooling.left_out(now, "anybody").map(|left| left.as_secs())
        };
        assert_eq!((left(0, 1), left(7, 1), left(9999, 1)), (None, Some(7), Some(300)));
        assert_eq!(left(1, 9), Some(1), "no longer than it asked for");
        assert_eq!(left(0, 5), Some(4), "one that asks for nothing again and again");
        let cooling = Cooling::default();
        cooling.unhelpful(now, "loud", Some(Duration::from_secs(30)));
        assert_eq!(cooling.left_out(now, "loud"), Some(Duration::from_secs(30)));
        assert_eq!(cooling.left_out(now, "quiet"), None);
        cooling.unhelpful(now, "loud", None);
        assert_eq!(
            cooling.left_out(now, "loud"),
            Some(Duration::from_secs(30)),
            "no shorter than it asked for"
        );
    }

    #[test]
    fn refusals_under_way_together_count_once_and_the_longest_pause_holds() {
        let (cooling, begun) = (Cooling::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        for asked in [1, 7, 1, 1, 1, 1, 1, 1] {
            cooling.failed(begun, at(1), Some(Duration::from_secs(asked)));
        }
        assert_eq!(cooling.left_out(at(1), "anybody"), Some(Duration::from_secs(7)));
        // They were one failure, so this is the second, which is forgiven.
        cooling.failed(at(8), at(9), None);
        assert_eq!(cooling.left_out(at(9), "anybody"), None);
        cooling.failed(at(10), at(11), None);
        assert_eq!(cooling.left_out(at(11), "anybody"), Some(FIRST));
    }

    #[test]
    fn an_answer_ends_no_pause_that_was_asked_for() {
        let (cooling, now) = (Cooling::default(), Instant::now());
        let (seven, nine) = (Duration::from_secs(7), Duration::from_secs(9));
        cooling.failed(now, now, Some(seven));
        cooling.unhelpful(now, "loud", Some(nine));
        (0..3).for_each(|_| cooling.unhelpful(now, "loud", None));
        for tenant in ["loud", "quiet"] {
            cooling.answered(tenant);
        }
        assert_eq!(cooling.left_out(now, "quiet"), Some(seven));
        assert_eq!(cooling.left_out(now, "loud"), Some(nine));
        // The counts are gone: two more are forgiven.
        let later = now + nine;
        for _ in 0..2 {
            cooling.failed(later, later, None);
            cooling.unhelpful(later, "loud", None);
        }
        assert_eq!(cooling.left_out(later, "loud"), None);
    }

    #[test]
    fn what_is_unhelpful_is_forgiven_twice_and_then_costs_the_tenant_that_met_it() {
        let cooling = Cooling::default();
        let now = Instant::now();
        let seconds: Vec<Option<u64>> = (0..8)
            .map(|_| {
                cooling.unhelpful(now, "loud", None);
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
            cooling.unhelpful(Instant::now(), &number.to_string(), None);
        }
        assert!(cooling.state.lock().unhelpful.len() <= TENANTS);
    }
}
