//! The times of the store. One wall clock, looked at once, at the start; then the kernel's steady one, which also counts
//! while the machine sleeps. A wall clock that jumps while the service runs makes nothing old and nothing disordered.
//!
//! A wall clock that is wrong at the start is known by what is stored: behind the newest of it, times go on from there;
//! far ahead of it, new records have the wall clock's time, and what is stored grows old slowly until that is caught up,
//! so that there is time to set the clock right before history is deleted.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use tracing::warn;

const HOUR_MS: u64 = 3_600_000;
/// A wall clock so far behind the newest record at the most is bridged: further, and the records are what is wrong.
const BRIDGED_MS: u64 = 24 * HOUR_MS;
/// A service may have been down for so long; more is taken for a wrong clock.
const PLAUSIBLE_MS: u64 = 30 * 24 * HOUR_MS;
/// Where the clock is not believed, an hour of service makes what is stored at most so many hours older.
const CATCH_UP: u64 = 24;
/// Jumps of the wall clock below this are nobody's business.
const JUMP_MS: i64 = 60_000;

/// How often the wall clock is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// The clocks. All of them are steady, and the same at any time but after a start with a wall clock far ahead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    base_ms: u64,
    believed_ms: u64,
    since: Duration,
}

impl Clock {
    /// `newest_ms`: the newest time that is stored.
    pub(crate) fn start(newest_ms: Option<u64>) -> Self {
        let clock = Self::at(wall_ms(), newest_ms, boot_time());
        let newest_ms = newest_ms.unwrap_or(clock.base_ms);
        let behind = newest_ms.saturating_sub(wall_ms());
        if behind > JUMP_MS.unsigned_abs() {
            warn!(
                seconds = behind / 1000,
                bridged = clock.base_ms == newest_ms,
                "the machine's clock is behind the newest record: set it right, then restart"
            );
        }
        if clock.believed_ms != clock.base_ms {
            warn!(
                hours = (clock.base_ms - newest_ms) / HOUR_MS,
                "the machine's clock is far ahead of the newest record: what is stored is deleted by age slowly for now; if \
                 the clock is wrong, set it right and restart"
            );
        }
        clock
    }

    fn at(wall_ms: u64, newest_ms: Option<u64>, since: Duration) -> Self {
        let newest_ms = newest_ms.unwrap_or(wall_ms);
        let bridged = wall_ms < newest_ms && newest_ms - wall_ms <= BRIDGED_MS;
        let base_ms = if bridged { newest_ms } else { wall_ms };
        let leapt = base_ms.saturating_sub(newest_ms) > PLAUSIBLE_MS;
        Self { base_ms, believed_ms: if leapt { newest_ms } else { base_ms }, since }
    }

    fn elapsed_ms(&self) -> u64 {
        boot_time().saturating_sub(self.since).as_millis() as u64
    }

    /// Of what happens now: Unix time in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        self.base_ms.saturating_add(self.elapsed_ms())
    }

    /// By which idempotency keys are given their time and lose it.
    pub(crate) fn key_ms(&self) -> u64 {
        self.believed_ms.saturating_add(self.elapsed_ms())
    }

    /// By which what is stored grows old.
    pub(crate) fn age_ms(&self) -> u64 {
        self.age_after(self.elapsed_ms())
    }

    fn age_after(&self, elapsed_ms: u64) -> u64 {
        let caught_up = self.believed_ms.saturating_add(elapsed_ms.saturating_mul(CATCH_UP));
        caught_up.min(self.base_ms.saturating_add(elapsed_ms))
    }

    /// How far the wall clock is ahead.
    fn ahead_ms(&self) -> i64 {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        signed(wall_ms()).saturating_sub(signed(self.now_ms()))
    }
}

/// Says so when the wall clock jumps, for the times in records then differ from it until a restart.
#[derive(Debug)]
pub(crate) struct JumpWatch {
    clock: Clock,
    seen_ms: i64,
    next_look: Instant,
}

impl JumpWatch {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, seen_ms: clock.ahead_ms(), next_look: Instant::now() }
    }

    /// Looks, now and then.
    pub(crate) fn look(&mut self) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + EVERY;
        let ahead_ms = self.clock.ahead_ms();
        let jumped_ms = ahead_ms.saturating_sub(self.seen_ms);
        if jumped_ms.abs() >= JUMP_MS {
            self.seen_ms = ahead_ms;
            warn!(
                seconds = jumped_ms / 1000,
                "the machine's clock jumped; times in records go on as before, and follow it after a restart"
            );
        }
    }
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn boot_time() -> Duration {
    // Every kernel that this runs on has this clock.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: u64 = 1_800_000_000_000;
    const YEAR_MS: u64 = 365 * 24 * HOUR_MS;

    fn started(newest_ms: Option<u64>) -> Clock {
        Clock::at(WALL, newest_ms, Duration::ZERO)
    }

    #[test]
    fn a_first_start_and_a_plausible_pause_believe_the_wall_clock() {
        for newest in [None, Some(WALL), Some(WALL - 8 * 24 * HOUR_MS), Some(WALL - PLAUSIBLE_MS)] {
            let clock = started(newest);
            assert_eq!((clock.base_ms, clock.believed_ms), (WALL, WALL), "{newest:?}");
            assert_eq!(clock.age_after(HOUR_MS), WALL + HOUR_MS);
        }
    }

    #[test]
    fn times_go_on_from_the_newest_record_when_the_clock_was_set_back() {
        let clock = started(Some(WALL + HOUR_MS));
        assert_eq!((clock.base_ms, clock.believed_ms), (WALL + HOUR_MS, WALL + HOUR_MS));
        // Records from another decade are what is wrong.
        assert_eq!(started(Some(WALL + 10 * YEAR_MS)).base_ms, WALL);
    }

    #[test]
    fn a_clock_years_ahead_makes_nothing_old_at_once() {
        let newest = WALL - 10 * YEAR_MS;
        let clock = started(Some(newest));
        assert_eq!((clock.base_ms, clock.believed_ms), (WALL, newest));
        assert_eq!(clock.age_after(0), newest);
        assert_eq!(clock.age_after(HOUR_MS), newest + 24 * HOUR_MS);
        assert_eq!(clock.age_after(YEAR_MS), WALL + YEAR_MS, "caught up");
    }
}
