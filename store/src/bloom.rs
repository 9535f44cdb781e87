//! A filter over idempotency keys: "certainly not in the table" or "perhaps". Two generations, so that keys leave it
//! after they have expired. It has a fixed size; overfull it only says "perhaps" more often, which costs a read.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Bits of one generation; 1 in 400 fresh keys is "perhaps" at 2,000,000 keys.
const BITS: u64 = 1 << 25;
const PROBES: u32 = 4;

/// The filter.
#[derive(Debug)]
pub(crate) struct Bloom {
    generations: [Vec<AtomicU64>; 2],
    current: AtomicUsize,
    /// When the current generation began, Unix milliseconds.
    since: AtomicU64,
    lifetime: u64,
    complete: AtomicBool,
}

impl Bloom {
    /// An empty filter, which is not believed until it is [complete](Self::complete).
    pub(crate) fn new(now: u64, lifetime: u64) -> Self {
        let generation = || (0..BITS / 64).map(|_| AtomicU64::new(0)).collect();
        Self {
            generations: [generation(), generation()],
            current: AtomicUsize::new(0),
            since: AtomicU64::new(now),
            lifetime,
            complete: AtomicBool::new(false),
        }
    }

    pub(crate) fn complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    pub(crate) fn insert(&self, hash: u64) {
        let generation = &self.generations[self.current.load(Ordering::Acquire)];
        for (word, bit) in places(hash) {
            generation[word].fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Whether the table may hold the key.
    pub(crate) fn may_contain(&self, hash: u64, now: u64) -> bool {
        self.rotate(now);
        !self.complete.load(Ordering::Acquire)
            || self.generations.iter().any(|generation| {
                places(hash).all(|(word, bit)| generation[word].load(Ordering::Acquire) & bit != 0)
            })
    }

    /// After one lifetime the other generation holds only expired keys: it is emptied and becomes the current one.
    fn rotate(&self, now: u64) {
        let since = self.since.load(Ordering::Acquire);
        if now < since.saturating_add(self.lifetime)
            || self.since.compare_exchange(since, now, Ordering::AcqRel, Ordering::Acquire).is_err()
        {
            return;
        }
        let next = 1 - self.current.load(Ordering::Acquire);
        for word in &self.generations[next] {
            word.store(0, Ordering::Release);
        }
        self.current.store(next, Ordering::Release);
    }
}

fn places(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    let step = (hash.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15) | 1;
    (0..PROBES).map(move |probe| {
        let place = hash.wrapping_add(step.wrapping_mul(u64::from(probe))) % BITS;
        ((place / 64) as usize, 1u64 << (place % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        let filter = Bloom::new(0, 10);
        assert!(filter.may_contain(1, 0), "an incomplete filter must not deny");
        filter.complete();
        let hash = |n: u64| {
            n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17).wrapping_mul(0xff51_afd7_ed55_8ccd)
        };
        (0..100_000).for_each(|n| filter.insert(hash(n)));
        assert!((0..100_000).all(|n| filter.may_contain(hash(n), 0)));
        let wrong = (100_000..200_000).filter(|&n| filter.may_contain(hash(n), 0)).count();
        assert!(wrong < 200, "{wrong} of 100,000 fresh keys looked known");
    }

    #[test]
    fn keys_stay_for_one_lifetime_and_go_after_two() {
        let filter = Bloom::new(0, 10);
        filter.complete();
        filter.insert(7);
        assert!(filter.may_contain(7, 10));
        filter.insert(8);
        assert!(filter.may_contain(7, 19));
        assert!(!filter.may_contain(7, 20));
        assert!(filter.may_contain(8, 20));
        assert!(!filter.may_contain(8, 30));
    }
}
