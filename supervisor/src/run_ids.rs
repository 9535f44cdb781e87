//! Names for new runs, in rising order: lists are in the order of names, and a client that sends one run after another within
//! a millisecond expects to find them so.

use std::sync::atomic::{AtomicU64, Ordering};

use void_api::RunId;

/// Bits that count names within a millisecond, between the time and 64 random bits. A millisecond with more borrows from
/// those that follow.
const COUNT_BITS: u32 = 16;
const RANDOM_BITS: u32 = 64;

/// Gives out names; one for the process. It reads no clock and makes no randomness.
#[derive(Debug)]
pub(crate) struct RunIds {
    /// Time and count of the last name.
    last: AtomicU64,
}

impl RunIds {
    /// All names will be greater than `greatest`, whatever the clock says by then: it may have been far ahead.
    pub(crate) fn after(greatest: Option<RunId>) -> RunIds {
        let last = greatest.map_or(0, |id| (id.as_u128() >> RANDOM_BITS) as u64);
        RunIds { last: AtomicU64::new(last) }
    }

    /// A name that is greater than all before. `unix_ms`: now; of `random`, the low 64 bits are taken.
    pub(crate) fn next(&self, unix_ms: u64, random: u128) -> RunId {
        let earliest = unix_ms << COUNT_BITS;
        let after = |last: u64| last.saturating_add(1).max(earliest);
        // Every closure that gives a value succeeds: both arms are the same.
        let (Ok(last) | Err(last)) =
            self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
        let place = after(last);
        let count = place & ((1 << COUNT_BITS) - 1);
        RunId::new(place >> COUNT_BITS, u128::from(count) << RANDOM_BITS | random & u128::from(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_rise_within_a_millisecond_and_where_the_clock_stands_or_falls_back() {
        let ids = RunIds::after(None);
        let mut before = ids.next(0, u128::MAX);
        for unix_ms in [1_000, 1_000, 1_000, 999, 1_001, 5] {
            // The random part must not matter to the order.
            let id = ids.next(unix_ms, if unix_ms % 2 == 0 { 0 } else { u128::MAX });
            assert!(id > before, "{id} after {before}");
            before = id;
        }
        assert_eq!(before.unix_ms(), 1_001);
    }

    #[test]
    fn names_go_on_after_the_greatest_there_is() {
        let greatest = RunId::new(5_000, u128::MAX);
        let ids = RunIds::after(Some(greatest));
        let first = ids.next(1_000, 0);
        assert!(first > greatest && ids.next(1_000, 0) > first);
        assert_eq!(ids.next(9_000, 0).unix_ms(), 9_000);
    }

    #[test]
    fn a_millisecond_with_too_many_names_borrows_from_the_next() {
        let ids = RunIds::after(None);
        let names: Vec<_> = (0..(2 << COUNT_BITS)).map(|_| ids.next(7, 0)).collect();
        assert!(names.is_sorted_by(|a, b| a < b));
        assert_eq!((names[0].unix_ms(), names[names.len() - 1].unix_ms()), (7, 8));
    }

    #[test]
    fn names_of_several_threads_are_all_different() {
        let ids = RunIds::after(None);
        let mut names: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1_000).map(|_| ids.next(7, 0)).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 4_000);
    }
}
