//! Refused calls: gathered for the run's record, each once with a count, and told to the log, which a guest cannot flood.

use parking_lot::Mutex;
use void_api::{DenialNote, RunId};
use void_policy::judge::Denial;
use void_policy::rate::TokenBucket;

/// Different refusals that one record holds. More of a rule that is there count with the last of that rule.
const NOTES: usize = 16;
/// Lines of the log a second, and at once.
const LINES_PER_SECOND: u32 = 10;
const LINES_AT_ONCE: u32 = 50;

/// The refusals of one run.
#[derive(Debug, Default)]
pub(super) struct Denials(Vec<(Denial, u32)>);

impl Denials {
    /// Notes a refusal; whether it is the first of its kind.
    pub(super) fn note(&mut self, denial: &Denial) -> bool {
        let same_rule = |known: &Denial| known.kind() == denial.kind() && known.rule() == denial.rule();
        let same = |known: &Denial| same_rule(known) && known.reason() == denial.reason();
        let place = match self.0.iter().position(|(known, _)| same(known)) {
            None if self.0.len() >= NOTES => self.0.iter().rposition(|(known, _)| same_rule(known)),
            place => place,
        };
        if let Some((_, count)) = place.and_then(|place| self.0.get_mut(place)) {
            *count = count.saturating_add(1);
            return false;
        }
        // Beyond as many different ones as a record holds, the metrics alone count.
        let room = self.0.len() < NOTES;
        if room {
            self.0.push((denial.clone(), 1));
        }
        room
    }

    /// As the record tells them.
    pub(super) fn into_notes(self) -> Vec<DenialNote> {
        self.0.iter().map(|(denial, count)| denial.note(*count)).collect()
    }
}

/// The log of refusals of all runs.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<(TokenBucket, u64)>);

impl Log {
    /// Writes a line, as long as there were not too many lately; what was left out is said with the next one.
    pub(super) fn denied(&self, now_ns: u64, run_id: RunId, tenant: &str, denial: &Denial) {
        let left_out = {
            let (bucket, left_out) = &mut *self.0.lock();
            if bucket.take(now_ns, LINES_PER_SECOND, LINES_AT_ONCE).is_err() {
                *left_out += 1;
                return;
            }
            std::mem::take(left_out)
        };
        tracing::warn!(
            %run_id,
            tenant,
            call = denial.kind().as_str(),
            rule = denial.rule().as_str(),
            reason = denial.reason(),
            remedy = denial.remedy(),
            left_out,
            "a gateway call was denied"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use void_policy::judge::{Call, KvAsk, Spent, Terms, judge};
    use void_policy::rate::HttpRates;
    use void_policy::{Settings, Tenant};

    fn denial(call: Call) -> Denial {
        let vars = [("WASM_CAPS".to_owned(), "kv".to_owned())];
        let (settings, _) = Settings::from_vars(vars, None, 1).unwrap();
        let tenant = Tenant::default_tenant();
        let terms = Terms { tenant: &tenant, grants: &settings.grants, limits: &settings.limits };
        judge(terms, &mut Spent::default(), &HttpRates::default(), 0, call).unwrap_err()
    }

    #[test]
    fn each_refusal_stands_once_with_its_count_and_there_are_not_too_many() {
        let mut denials = Denials::default();
        let not_granted = denial(Call::Emit { event: "e".into(), data: vec![] });
        assert!(denials.note(&not_granted));
        assert!(!denials.note(&not_granted));
        for number in 0..100 {
            let namespace = format!("/{number}");
            let bad = denial(Call::KvGet(KvAsk { namespace, key: "k".into() }));
            assert_eq!(denials.note(&bad), number < NOTES - 1);
        }
        let large = denial(Call::KvSet(KvAsk { namespace: String::new(), key: "k".into() }, vec![0; 5000]));
        assert!(!denials.note(&large), "there is no room");
        let notes = denials.into_notes();
        assert_eq!(notes.len(), NOTES);
        assert_eq!((notes[0].rule.as_str(), notes[0].count), ("cap_missing", 2));
        assert_eq!(notes.iter().skip(1).map(|note| note.count).sum::<u32>(), 100);
    }
}
