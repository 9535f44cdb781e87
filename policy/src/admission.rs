//! Whether and how a request is taken, once it is known to be a new one.
//!
//! The order is the API's: the master switch first, then the freeze, then the canary share. Idempotency lies between the
//! first and the second, and is the store's to know; so the caller refuses on [`Admission::Disabled`], then asks the
//! store for the key, then goes on with the rest.

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use void_api::Mode;

use crate::settings::Switches;

/// How many buckets runs are spread over.
pub const BUCKETS: u16 = 10_000;

/// The share of runs that execute, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// Every run executes.
    pub const ALL: Self = Self(1.0);
    /// No run executes.
    pub const NONE: Self = Self(0.0);

    /// `None` where it is not a number from 0 to 1.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        // Adding zero turns -0 into 0.
        (0.0..=1.0).contains(&share).then_some(Self(share + 0.0))
    }

    /// From 0 to 1.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Whether every run executes.
    #[must_use]
    pub fn is_all(self) -> bool {
        self.0 >= 1.0
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64(self.0)
    }
}

/// A run's place among the [`BUCKETS`], from 0. It does not depend on the share: raising that only ever adds runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

impl Bucket {
    /// `key` is the idempotency key, or else the run's id.
    #[must_use]
    pub fn of(tenant: &str, key: &str) -> Self {
        let mut hash = Sha256::new();
        // The length keeps (ab, c) apart from (a, bc).
        hash.update((tenant.len() as u64).to_le_bytes());
        hash.update(tenant);
        hash.update(key);
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        let bucket = u64::from_le_bytes([a, b, c, d, e, f, g, h]) % u64::from(BUCKETS);
        Self(u16::try_from(bucket).unwrap_or_default())
    }

    /// From 0 to 9,999.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether a run of this bucket executes at this share.
    #[must_use]
    pub fn chosen(self, share: Share) -> bool {
        share.0 * f64::from(BUCKETS) > f64::from(self.0)
    }
}

/// What becomes of a request.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The master switch is off: nothing is stored.
    Disabled,
    /// Recorded, and never executed.
    Frozen,
    /// Executes, in [`Mode::Live`] or [`Mode::Canary`].
    Execute(Mode),
    /// Checked in every way, and not executed.
    DryRun,
}

impl Admission {
    /// The mode that the client is told; none where nothing was admitted.
    #[must_use]
    pub const fn mode(self) -> Option<Mode> {
        match self {
            Self::Disabled => None,
            Self::Frozen => Some(Mode::Frozen),
            Self::Execute(mode) => Some(mode),
            Self::DryRun => Some(Mode::DryRun),
        }
    }
}

/// Decides by the switches that stand now. Whether the queue has room is asked afterwards.
pub fn admit(switches: &Switches, bucket: Bucket) -> Admission {
    if !switches.enabled {
        Admission::Disabled
    } else if switches.freeze {
        Admission::Frozen
    } else if switches.canary.is_all() {
        Admission::Execute(Mode::Live)
    } else if bucket.chosen(switches.canary) {
        Admission::Execute(Mode::Canary)
    } else {
        Admission::DryRun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn switches(enabled: bool, freeze: bool, canary: f64) -> Switches {
        Switches { enabled, freeze, canary: Share::new(canary).unwrap() }
    }

    #[test]
    fn disabled_outranks_frozen_outranks_canary() {
        let bucket = Bucket(0);
        assert_eq!(admit(&switches(false, true, 1.0), bucket), Admission::Disabled);
        assert_eq!(admit(&switches(true, true, 1.0), bucket), Admission::Frozen);
        assert_eq!(admit(&switches(true, false, 1.0), Bucket(9_999)), Admission::Execute(Mode::Live));
        assert_eq!(admit(&switches(true, false, 0.5), Bucket(4_999)), Admission::Execute(Mode::Canary));
        assert_eq!(admit(&switches(true, false, 0.5), Bucket(5_000)), Admission::DryRun);
        assert_eq!(admit(&switches(true, false, 0.0), bucket), Admission::DryRun);
    }

    #[test]
    fn a_share_is_a_finite_number_from_0_to_1() {
        for bad in [-0.1, 1.000_001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Share::new(bad), None, "{bad}");
        }
        assert!(Share::new(-0.0).unwrap().get().is_sign_positive());
    }

    #[test]
    fn buckets_are_uniform() {
        let mut tenths = [0u32; 10];
        let runs = 100_000u32;
        for i in 0..runs {
            tenths[usize::from(Bucket::of("default", &format!("key-{i}")).get() / 1_000)] += 1;
        }
        // Ten thousand are expected in each; the standard deviation is 95.
        assert!(tenths.iter().all(|n| n.abs_diff(runs / 10) < 500), "{tenths:?}");
    }

    #[test]
    fn a_bucket_is_the_same_in_every_version() {
        assert_eq!(Bucket::of("default", "key").get(), 2_246);
        assert_ne!(Bucket::of("ab", "c"), Bucket::of("a", "bc"));
    }

    proptest! {
        #[test]
        fn raising_the_share_only_adds(tenant: String, key: String, a in 0.0f64..=1.0, b in 0.0f64..=1.0) {
            let bucket = Bucket::of(&tenant, &key);
            prop_assert!(bucket.get() < BUCKETS);
            let (low, high) = (Share::new(a.min(b)).unwrap(), Share::new(a.max(b)).unwrap());
            prop_assert!(!bucket.chosen(low) || bucket.chosen(high));
            prop_assert!(bucket.chosen(Share::ALL) && !bucket.chosen(Share::NONE));
        }
    }
}
