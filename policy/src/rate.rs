//! How often something may happen: token buckets fed with monotonic nanoseconds. Reads no clock.
//!
//! A bucket is kept as the one time at which it will be full again (the generic cell rate algorithm), so that it needs
//! eight bytes and no timer, and a clock that stands still or goes back grants nothing extra.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::tokens::Tenant;

const SECOND_NS: u64 = 1_000_000_000;
/// Buckets of hosts that are kept at once. A full bucket is forgotten first: it is the same as none.
const HOSTS_MAX: usize = 16_384;

/// A bucket that begins full. Rate and burst are given with each use, since a reload may change them.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenBucket {
    full_at_ns: u64,
}

/// The bucket is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Until there is a token again, nanoseconds.
    pub ns: u64,
}

impl TokenBucket {
    /// Takes one token; `per_second` come back in a second, and `burst` are there at most.
    ///
    /// # Errors
    /// There is none; then nothing was taken.
    pub fn take(&mut self, now_ns: u64, per_second: u32, burst: u32) -> Result<(), Wait> {
        // Rounded up, so that never more than the rate is granted.
        let token_ns = SECOND_NS.div_ceil(u64::from(per_second.max(1)));
        let room_ns = token_ns.saturating_mul(u64::from(burst));
        let full_at_ns = self.full_at_ns.max(now_ns).saturating_add(token_ns);
        let ahead_ns = full_at_ns.saturating_sub(now_ns);
        if ahead_ns > room_ns {
            return Err(Wait { ns: ahead_ns - room_ns });
        }
        self.full_at_ns = full_at_ns;
        Ok(())
    }
}

/// The buckets of `http.fetch`, one for each tenant and host, shared by all runs.
#[derive(Debug, Default)]
pub struct HttpRates {
    buckets: Mutex<HashMap<(Tenant, String), TokenBucket>>,
}

impl HttpRates {
    /// Takes one token of this tenant for this host (a normalised name or address, without port).
    ///
    /// # Errors
    /// There is none, or too many other buckets are in use.
    pub fn take(
        &self,
        tenant: &Tenant,
        host: &str,
        now_ns: u64,
        per_second: u32,
        burst: u32,
    ) -> Result<(), Wait> {
        // A bucket is valid at any moment: what another thread left when it panicked is as good as any.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.clone(), host.to_owned());
        if let Some(bucket) = buckets.get_mut(&key) {
            return bucket.take(now_ns, per_second, burst);
        }
        if buckets.len() >= HOSTS_MAX {
            buckets.retain(|_, bucket| bucket.full_at_ns > now_ns);
        }
        if buckets.len() >= HOSTS_MAX {
            return Err(Wait { ns: SECOND_NS });
        }
        buckets.entry(key).or_default().take(now_ns, per_second, burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::default();
        let now = 5 * SECOND_NS;
        for _ in 0..4 {
            assert_eq!(bucket.take(now, 2, 4), Ok(()));
        }
        assert_eq!(bucket.take(now, 2, 4), Err(Wait { ns: SECOND_NS / 2 }));
        assert_eq!(bucket.take(now + SECOND_NS / 2 - 1, 2, 4), Err(Wait { ns: 1 }));
        assert_eq!(bucket.take(now + SECOND_NS / 2, 2, 4), Ok(()));
        assert!(bucket.take(now + SECOND_NS / 2, 2, 4).is_err());
        // However long nothing happens, no more than the burst is saved.
        let later = now + 100 * SECOND_NS;
        assert_eq!((0..10).filter(|_| bucket.take(later, 2, 4).is_ok()).count(), 4);
    }

    #[test]
    fn tenants_and_hosts_do_not_share() {
        let rates = HttpRates::default();
        let (a, b) = (Tenant::new("a").unwrap(), Tenant::new("b").unwrap());
        assert!(rates.take(&a, "x", 0, 1, 1).is_ok());
        assert!(rates.take(&a, "x", 0, 1, 1).is_err());
        assert!(rates.take(&a, "y", 0, 1, 1).is_ok());
        assert!(rates.take(&b, "x", 0, 1, 1).is_ok());
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let rates = HttpRates::default();
        let tenant = Tenant::default_tenant();
        for i in 0..HOSTS_MAX {
            assert!(rates.take(&tenant, &i.to_string(), 0, 1, 1).is_ok());
        }
        assert!(rates.take(&tenant, "one more", 0, 1, 1).is_err());
        assert!(rates.take(&tenant, "one more", SECOND_NS, 1, 1).is_ok());
        assert_eq!(rates.buckets.lock().unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(
            steps in prop::collection::vec(0u64..2 * SECOND_NS, 0..60), per_second in 1u32..20, burst in 1u32..20,
        ) {
            let mut bucket = TokenBucket::default();
            let (mut now, mut granted) = (0u64, 0u64);
            for step in steps {
                now += step;
                granted += u64::from(bucket.take(now, per_second, burst).is_ok());
                prop_assert!(granted <= u64::from(burst) + now * u64::from(per_second) / SECOND_NS);
            }
        }

        #[test]
        fn any_numbers_are_taken_without_panic(times: [u64; 4], per_second: u32, burst: u32) {
            let mut bucket = TokenBucket::default();
            for now in times {
                let _ = bucket.take(now, per_second, burst);
            }
        }
    }
}
