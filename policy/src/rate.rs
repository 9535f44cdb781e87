//! How often something may happen: token buckets fed with monotonic nanoseconds. Reads no clock.
//!
//! A bucket is kept as the one time at which it will be full again (the generic cell rate algorithm), so that it needs
//! eight bytes and no timer, and a clock that stands still or goes back grants nothing extra.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::{Serialize, Serializer};

use crate::tokens::Tenant;

const SECOND_NS: u64 = 1_000_000_000;
/// Parts of one a second in which rates are kept.
const PARTS: u64 = 1_000_000;
/// Digits behind the point that [`PARTS`] has room for.
const DIGITS: usize = 6;
/// Hosts of one tenant whose buckets are kept at once. A full bucket is forgotten first: it is the same as none.
const HOSTS_MAX: usize = 1024;
/// Tenants kept before those without a bucket in use are forgotten. Their number is the operator's choice.
const TENANTS_KEPT: usize = 64;

/// How often something may happen in a second: a decimal number with up to six digits behind the point, kept exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    /// Millionths of one a second, at least 1.
    parts: u64,
}

impl Rate {
    /// The slowest rate that a setting may name: once in a thousand seconds.
    pub const SLOWEST: Self = Self { parts: PARTS / 1000 };
    /// The fastest.
    pub const FASTEST: Self = Self { parts: 1_000_000 * PARTS };

    /// Reads `2` or `0.5`: decimal digits with at most one point between them, from 0.001 to 1,000,000.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (text, ""),
        };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > DIGITS {
            return None;
        }
        let fraction: u64 = format!("{fraction:0<DIGITS$}").parse().ok()?;
        let parts = whole.parse::<u64>().ok()?.checked_mul(PARTS)?.checked_add(fraction)?;
        let rate = Self { parts };
        (Self::SLOWEST..=Self::FASTEST).contains(&rate).then_some(rate)
    }

    /// From one to the next. Rounded up, so that never more than the rate is granted.
    const fn interval_ns(self) -> u64 {
        (SECOND_NS * PARTS).div_ceil(self.parts)
    }
}

impl From<u32> for Rate {
    /// So many a second; 0 counts as 1.
    fn from(per_second: u32) -> Self {
        Self { parts: u64::from(per_second.max(1)) * PARTS }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.parts / PARTS, self.parts % PARTS);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{fraction:0DIGITS$}").trim_end_matches('0'))
    }
}

impl Serialize for Rate {
    /// A number, whole where it is.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.parts % PARTS {
            0 => s.serialize_u64(self.parts / PARTS),
            _ => s.serialize_f64(self.parts as f64 / PARTS as f64),
        }
    }
}

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
    /// Takes one token; they come back at this rate, and `burst` are there at most.
    ///
    /// # Errors
    /// There is none; then nothing was taken.
    pub fn take(&mut self, now_ns: u64, rate: impl Into<Rate>, burst: u32) -> Result<(), Wait> {
        let token_ns = rate.into().interval_ns();
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

/// The buckets of `http.fetch`, one for each tenant and host, shared by all runs. Each tenant has room of its own, so that
/// none can take it from another.
#[derive(Debug, Default)]
pub struct HttpRates {
    tenants: Mutex<HashMap<Tenant, Hosts>>,
}

type Hosts = HashMap<String, TokenBucket>;

impl HttpRates {
    /// Takes one token of this tenant for this host (a normalised name or address, without port).
    ///
    /// # Errors
    /// There is none, or too many other buckets of this tenant are in use.
    pub fn take(
        &self,
        tenant: &Tenant,
        host: &str,
        now_ns: u64,
        rate: impl Into<Rate>,
        burst: u32,
    ) -> Result<(), Wait> {
        // A bucket is valid at any moment: what another thread left when it panicked is as good as any.
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if !tenants.contains_key(tenant) && tenants.len() >= TENANTS_KEPT {
            tenants.retain(|_, hosts| hosts.values().any(|bucket| bucket.full_at_ns > now_ns));
        }
        let hosts = tenants.entry(tenant.clone()).or_default();
        if let Some(bucket) = hosts.get_mut(host) {
            return bucket.take(now_ns, rate, burst);
        }
        if hosts.len() >= HOSTS_MAX {
            hosts.retain(|_, bucket| bucket.full_at_ns > now_ns);
        }
        if hosts.len() >= HOSTS_MAX {
            return Err(Wait { ns: SECOND_NS });
        }
        hosts.entry(host.to_owned()).or_default().take(now_ns, rate, burst)
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
    fn slower_than_one_a_second() {
        let half = Rate::parse("0.5").unwrap();
        let mut bucket = TokenBucket::default();
        assert_eq!(bucket.take(0, half, 1), Ok(()));
        assert_eq!(bucket.take(0, half, 1), Err(Wait { ns: 2 * SECOND_NS }));
        assert_eq!(bucket.take(2 * SECOND_NS, half, 1), Ok(()));
    }

    #[test]
    fn rates_are_read_and_shown_exactly() {
        for (text, shown, json) in [
            ("2", "2", "2"),
            ("2.0", "2", "2"),
            ("0.5", "0.5", "0.5"),
            ("0.001", "0.001", "0.001"),
            ("1000000", "1000000", "1000000"),
            ("333333.333333", "333333.333333", "333333.333333"),
            ("007.250", "7.25", "7.25"),
        ] {
            let rate = Rate::parse(text).unwrap();
            assert_eq!(
                (rate.to_string().as_str(), serde_json::to_string(&rate).unwrap().as_str()),
                (shown, json)
            );
            assert_eq!(Rate::parse(shown), Some(rate));
        }
        for wrong in [
            "",
            ".",
            ".5",
            "1.",
            "0",
            "0.0",
            "0.0009",
            "1000000.1",
            "1000001",
            "-1",
            "+1",
            "1e3",
            "1,5",
            "0.1234567",
            "99999999999999999999",
            "1.2.3",
            " 1",
            "NaN",
            "٣",
        ] {
            assert_eq!(Rate::parse(wrong), None, "{wrong}");
        }
        // A whole rate is what it was as a whole number.
        assert_eq!(Rate::from(3), Rate::parse("3").unwrap());
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
    fn the_number_of_buckets_is_bounded_for_each_tenant_alone() {
        let rates = HttpRates::default();
        let (flood, other) = (Tenant::default_tenant(), Tenant::new("other").unwrap());
        for i in 0..HOSTS_MAX {
            assert!(rates.take(&flood, &i.to_string(), 0, 1, 1).is_ok());
        }
        assert!(rates.take(&flood, "one more", 0, 1, 1).is_err());
        assert!(rates.take(&flood, "0", 0, 1, 1).is_err(), "an empty bucket is not forgotten for another");
        assert!(rates.take(&other, "one more", 0, 1, 1).is_ok());
        assert!(rates.take(&flood, "one more", SECOND_NS, 1, 1).is_ok());
        assert_eq!(rates.tenants.lock().unwrap()[&flood].len(), 1);
    }

    #[test]
    fn tenants_without_a_bucket_in_use_are_forgotten() {
        let rates = HttpRates::default();
        for i in 0..TENANTS_KEPT {
            assert!(rates.take(&Tenant::new(&i.to_string()).unwrap(), "x", 0, 1, 1).is_ok());
        }
        assert!(rates.take(&Tenant::new("0").unwrap(), "x", SECOND_NS, 1, 1).is_ok());
        assert!(rates.take(&Tenant::new("new").unwrap(), "x", SECOND_NS, 1, 1).is_ok());
        assert_eq!(rates.tenants.lock().unwrap().len(), 2);
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
