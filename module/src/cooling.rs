//! When a failing network source is left out, and for how long. Pure: the time is handed in.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The first pause; each further failure doubles it.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause that failures alone bring.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest pause that a source may ask for itself (`Retry-After`).
const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// Time-outs in a row that count as a failure. A CID that nobody has times out too, so a single one must not
/// let one tenant's typing error take a source from all others.
const SILENCES: u32 = 3;

#[derive(Debug, Default)]
struct State {
    failures: u32,
    silences: u32,
    until: Option<Instant>,
}

/// The health of one source.
#[derive(Debug, Default)]
pub(crate) struct Cooling {
    state: Mutex<State>,
}

impl Cooling {
    /// How much longer the source is left out, if it is.
    pub(crate) fn left_out(&self, now: Instant) -> Option<Duration> {
        let until = self.state.lock().until?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// It answered as it should, be it with "no".
    pub(crate) fn answered(&self) {
        *self.state.lock() = State::default();
    }

    /// It failed; `asked` is the pause that it asked for.
    pub(crate) fn failed(&self, now: Instant, asked: Option<Duration>) {
        let mut state = self.state.lock();
        let doubled = FIRST.saturating_mul(1 << state.failures.min(6)).min(LONGEST);
        let pause = asked.map_or(doubled, |asked| asked.clamp(doubled, LONGEST_ASKED));
        state.failures = state.failures.saturating_add(1);
        state.silences = 0;
        state.until = now.checked_add(pause);
    }

    /// It did not answer in time.
    pub(crate) fn silent(&self, now: Instant) {
        let counts = {
            let mut state = self.state.lock();
            state.silences += 1;
            // Kept short for the same reason: 8 seconds at most.
            state.failures = state.failures.min(3);
            state.silences >= SILENCES
        };
        if counts {
            self.failed(now, None);
        }
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
                cooling.left_out(now).unwrap().as_secs()
            })
            .collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(cooling.left_out(now + Duration::from_secs(60)), None);
        cooling.answered();
        assert_eq!(cooling.left_out(now), None);
        cooling.failed(now, Some(Duration::from_secs(9999)));
        assert_eq!(cooling.left_out(now), Some(LONGEST_ASKED));
    }

    #[test]
    fn one_silence_is_forgiven() {
        let cooling = Cooling::default();
        let now = Instant::now();
        cooling.silent(now);
        cooling.silent(now);
        assert_eq!(cooling.left_out(now), None);
        cooling.silent(now);
        assert_eq!(cooling.left_out(now), Some(FIRST));
    }
}
