//! The name of a run: `wasm_` and a ULID in lower-case Crockford base 32, so that names sort by time of acceptance.
//!
//! The caller supplies time and randomness.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const PREFIX: &[u8] = b"wasm_";
const DIGITS: usize = 26;
/// Bytes of the text form.
const LEN: usize = PREFIX.len() + DIGITS;
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const RANDOM_BITS: u32 = 80;
const TIME_MAX: u64 = (1 << 48) - 1;

/// The name of one run; 48 bits of Unix time in milliseconds, then 80 bits of the caller's, random ones as far as they need not
/// keep an order within a millisecond.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(u128);

/// The text is not the name of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a run id is \"wasm_\" and 26 characters of lower-case Crockford base 32")]
pub struct RunIdError;

impl RunId {
    /// `unix_ms` beyond the year 10889 is cut to the greatest time; of `random` the low 80 bits are taken.
    #[must_use]
    pub const fn new(unix_ms: u64, random: u128) -> Self {
        let time = if unix_ms > TIME_MAX { TIME_MAX } else { unix_ms };
        Self((time as u128) << RANDOM_BITS | (random & ((1 << RANDOM_BITS) - 1)))
    }

    /// The name as a number; orders like the text.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The inverse of [`RunId::as_u128`]; every number is a name.
    #[must_use]
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }

    /// Unix time in milliseconds: when the run was accepted, or later where a clock had been ahead (its record tells).
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        (self.0 >> RANDOM_BITS) as u64
    }

    fn text(self) -> [u8; LEN] {
        let mut text = [0; LEN];
        let (prefix, digits) = text.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX);
        let mut rest = self.0;
        for digit in digits.iter_mut().rev() {
            *digit = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        text
    }
}

/// Lends the text form without allocating.
fn with_text<R>(id: RunId, use_it: impl FnOnce(&str) -> R) -> R {
    // Only ASCII was written, so the text is never replaced by the empty one.
    use_it(std::str::from_utf8(&id.text()).unwrap_or_default())
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_text(*self, |text| f.pad(text))
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunId {
    type Err = RunIdError;

    /// Strict: one name has one spelling, so that a URL names a run in exactly one way.
    fn from_str(text: &str) -> Result<Self, RunIdError> {
        let digits = text.as_bytes().strip_prefix(PREFIX).ok_or(RunIdError)?;
        // 26 digits hold 130 bits: the first may only be 0 to 7.
        if digits.len() != DIGITS || digits.first().is_none_or(|first| *first > b'7') {
            return Err(RunIdError);
        }
        digits
            .iter()
            .try_fold(0u128, |number, digit| {
                let value = ALPHABET.iter().position(|known| known == digit)?;
                Some(number << 5 | value as u128)
            })
            .map(Self)
            .ok_or(RunIdError)
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        with_text(*self, |text| s.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn looks_like_a_ulid_and_keeps_its_time() {
        // The time part of the reference implementation's own example.
        let id = RunId::new(1_469_918_176_385, u128::MAX);
        assert_eq!(id.to_string(), "wasm_01aryz6s41zzzzzzzzzzzzzzzz");
        assert_eq!(id.unix_ms(), 1_469_918_176_385);
        assert_eq!(RunId::new(u64::MAX, 0).unix_ms(), TIME_MAX);
    }

    #[test]
    fn other_spellings_are_refused() {
        let good = RunId::new(1, 2).to_string();
        for bad in [
            good.to_uppercase(),
            good.replace("wasm_", "wasm-"),
            format!("{good}0"),
            good[..30].to_owned(),
            format!("wasm_8{}", "0".repeat(25)),
            format!("wasm_{}u", "0".repeat(25)),
            format!("wasm_{}é", "0".repeat(24)),
            String::new(),
        ] {
            assert_eq!(bad.parse::<RunId>(), Err(RunIdError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(number: u128) {
            let id = RunId::from_u128(number);
            prop_assert_eq!(id.to_string().parse::<RunId>(), Ok(id));
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<RunId>(&json).unwrap(), id);
        }

        #[test]
        fn text_sorts_by_time(a in 0u64..=TIME_MAX, b in 0u64..=TIME_MAX, r: u128, s: u128) {
            let (first, second) = (RunId::new(a, r), RunId::new(b, s));
            prop_assert_eq!(first.cmp(&second), first.to_string().cmp(&second.to_string()));
            if a < b { prop_assert!(first < second); }
        }

        #[test]
        fn any_text_is_judged_without_panic(text: String) {
            let _ = text.parse::<RunId>();
        }
    }
}
