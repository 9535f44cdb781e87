//! Events: their names, their size, and how much of them one run may have stored.
//!
//! What is counted is what lies on the disk: the data as JSON, which may be six times as long as the guest wrote it.

use void_api::{CallKind, clip};

use super::{Denial, EMIT_DATA_MAX_BYTES, EVENT_NAME_MAX_BYTES, Rule, Spent};

/// Bytes of all events of one run, as they are stored. As many as a run may write to its outputs, and room for all the calls
/// that a run has by default with as much plain text as fits.
pub const EMIT_STORED_MAX_BYTES: u64 = 64 << 20;
/// What an event costs beside its name and data, bytes: its place in the store, and the words around both.
pub const EVENT_STORED_BYTES: u64 = 128;

/// An event that may be emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmitPermit {
    event: String,
    data: Vec<u8>,
}

impl EmitPermit {
    /// The event's name.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Its data.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

pub(super) fn judge(spent: &mut Spent, event: String, data: Vec<u8>) -> Result<EmitPermit, Denial> {
    if event.is_empty() || event.len() > EVENT_NAME_MAX_BYTES || event.chars().any(char::is_control) {
        return Err(Denial::new(
            CallKind::Emit,
            Rule::BadName,
            format!("\"{}\" is not an event's name", clip(&event)),
            format!("give 1 to {EVENT_NAME_MAX_BYTES} bytes without control characters"),
        ));
    }
    if data.len() > EMIT_DATA_MAX_BYTES {
        let what = "the event's data";
        return Err(Denial::too_large(CallKind::Emit, what, data.len(), EMIT_DATA_MAX_BYTES, None));
    }
    let emitted = spent.emitted.saturating_add(stored_bytes(&event, &data));
    if emitted > EMIT_STORED_MAX_BYTES {
        return Err(Denial::new(
            CallKind::Emit,
            Rule::EmitBudget,
            format!("the run's events would have more than {EMIT_STORED_MAX_BYTES} bytes as they are stored"),
            "emit less, in text without control characters, or in several runs",
        ));
    }
    spent.emitted = emitted;
    Ok(EmitPermit { event, data })
}

/// Bytes of an event in the store: name and data as JSON texts, data that is not UTF-8 as base64.
fn stored_bytes(event: &str, data: &[u8]) -> u64 {
    let data = match std::str::from_utf8(data) {
        Ok(text) => json_bytes(text),
        Err(_) => data.len().div_ceil(3) * 4,
    };
    // Both are bounded by now.
    EVENT_STORED_BYTES + (json_bytes(event) + data) as u64
}

/// Bytes of a text between the quotes of a JSON string.
fn json_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn emit(spent: &mut Spent, data: &[u8]) -> Result<EmitPermit, Denial> {
        judge(spent, "e".to_owned(), data.to_vec())
    }

    /// How many events of this data a run may emit.
    fn most(data: &[u8]) -> u64 {
        let mut spent = Spent::default();
        (0..).take_while(|_| emit(&mut spent, data).is_ok()).count() as u64
    }

    #[test]
    fn a_run_may_store_so_much_however_it_is_written() {
        // 1 is the name's length.
        let fit = |bytes: u64| EMIT_STORED_MAX_BYTES / (EVENT_STORED_BYTES + 1 + bytes);
        assert_eq!(most(&[b'a'; 65_536]), fit(65_536));
        assert_eq!(most(&[1; 65_536]), fit(6 * 65_536));
        assert_eq!(most(&[b'"'; 65_536]), fit(2 * 65_536));
        assert_eq!(most(&[0xff; 65_536]), fit(87_384));
        assert_eq!(most(b""), fit(0));
        assert!(most(&[b'a'; 65_536]) >= 1000, "all the calls of a run by default");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_costs_nothing() {
        let mut spent = Spent::default();
        while emit(&mut spent, &[1; 65_536]).is_ok() {}
        let denial = emit(&mut spent, &[1; 65_536]).unwrap_err();
        assert_eq!((denial.rule(), denial.ends_run()), (Rule::EmitBudget, false));
        assert_eq!(denial.decision(), void_api::Decision::Deny);
        assert!(denial.reason().contains("67108864") && denial.remedy().contains("emit less"), "{denial}");
        assert!(emit(&mut spent, b"what is small still fits").is_ok());
        let before = spent.emitted;
        assert_eq!(emit(&mut spent, &[0; 65_537]).unwrap_err().rule(), Rule::TooLarge);
        assert_eq!(judge(&mut spent, "\n".into(), vec![]).unwrap_err().rule(), Rule::BadName);
        assert_eq!(spent.emitted, before);
    }

    proptest! {
        #[test]
        fn a_text_is_as_long_as_json_writes_it(text in "(\\PC|[\\x00-\\x7f])*") {
            let written = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(json_bytes(&text) + 2, written.len());
        }

        #[test]
        fn never_more_is_permitted_than_may_be_stored(events in prop::collection::vec((1usize..=256, 0usize..=65_536, any::<u8>()), 0..60)) {
            // Nearly used up, so that each case meets the end.
            let mut spent = Spent { emitted: EMIT_STORED_MAX_BYTES - 1_000_000, ..Spent::default() };
            for (name, bytes, byte) in events {
                let (name, data) = ("n".repeat(name), vec![byte; bytes]);
                let (before, size) = (spent.emitted, stored_bytes(&name, &data));
                match judge(&mut spent, name, data) {
                    Ok(_) => prop_assert_eq!(spent.emitted, before + size),
                    Err(denial) => {
                        prop_assert_eq!(denial.rule(), Rule::EmitBudget);
                        prop_assert!(before + size > EMIT_STORED_MAX_BYTES && spent.emitted == before);
                    }
                }
                prop_assert!(spent.emitted <= EMIT_STORED_MAX_BYTES);
            }
        }
    }
}
