//! Refused calls of one run, gathered for its record: each refusal once with a count, and none that a guest could hide
//! behind others.

use void_api::{CallKind, DenialNote};
use void_policy::judge::{Denial, Rule};

/// Different refusals that one record holds. The first one by each rule, of each kind of call, has room beyond that: they
/// are closed sets, so there are not many.
const NOTES: usize = 16;

/// The refusals of one run.
#[derive(Debug, Default)]
pub(super) struct Denials {
    notes: Vec<(Denial, u32)>,
    /// What there was no room for, by kind and rule.
    others: Vec<(CallKind, Rule, u32)>,
}

/// What a refusal is beside those before it in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The first one by its rule, of its kind of call.
    Rule,
    /// Another one by a rule that has refused before.
    Reason,
    /// The record has it already.
    Nothing,
}

impl Denials {
    /// Notes a refusal.
    pub(super) fn note(&mut self, denial: &Denial) -> News {
        let same_rule = |known: &Denial| known.kind() == denial.kind() && known.rule() == denial.rule();
        let same = |known: &Denial| same_rule(known) && known.reason() == denial.reason();
        if let Some((_, count)) = self.notes.iter_mut().find(|(known, _)| same(known)) {
            *count = count.saturating_add(1);
            return News::Nothing;
        }
        let first = !self.notes.iter().any(|(known, _)| same_rule(known));
        if first || self.notes.len() < NOTES {
            self.notes.push((denial.clone(), 1));
        } else {
            self.leave_out(denial.kind(), denial.rule());
        }
        if first { News::Rule } else { News::Reason }
    }

    fn leave_out(&mut self, kind: CallKind, rule: Rule) {
        match self.others.iter_mut().find(|other| (other.0, other.1) == (kind, rule)) {
            Some((.., count)) => *count = count.saturating_add(1),
            None => self.others.push((kind, rule, 1)),
        }
    }

    /// As the record tells them.
    pub(super) fn into_notes(self) -> Vec<DenialNote> {
        let notes = self.notes.iter().map(|(denial, count)| denial.note(*count));
        let others = self.others.iter().map(|(kind, rule, count)| DenialNote {
            kind: *kind,
            rule: rule.as_str().to_owned(),
            reason: format!("{count} more calls were refused by this rule, and are not told one by one"),
            remedy: "look at the notes of this rule that are, and at the service's log".to_owned(),
            count: *count,
        });
        notes.chain(others).collect()
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

    fn bad_namespace(number: usize) -> Denial {
        denial(Call::KvGet(KvAsk { namespace: format!("/{number}"), key: "k".into() }))
    }

    fn large_value() -> Denial {
        denial(Call::KvSet(KvAsk { namespace: String::new(), key: "k".into() }, vec![0; 5000]))
    }

    #[test]
    fn each_refusal_stands_once_with_its_count() {
        let mut denials = Denials::default();
        let not_granted = denial(Call::Emit { event: "e".into(), data: vec![] });
        assert_eq!(denials.note(&not_granted), News::Rule);
        assert_eq!(denials.note(&not_granted), News::Nothing);
        assert_eq!(denials.note(&bad_namespace(1)), News::Rule);
        assert_eq!(denials.note(&bad_namespace(2)), News::Reason);
        let counts: Vec<_> =
            denials.into_notes().iter().map(|note| (note.rule.clone(), note.count)).collect();
        let note = |rule: &str, count| (rule.to_owned(), count);
        assert_eq!(counts, [note("cap_missing", 2), note("bad_name", 1), note("bad_name", 1)]);
    }

    #[test]
    fn many_of_one_rule_do_not_hide_another_and_are_counted_apart() {
        let mut denials = Denials::default();
        for number in 0..100 {
            let news = denials.note(&bad_namespace(number));
            assert_eq!(news, if number == 0 { News::Rule } else { News::Reason });
        }
        // One that the record has counts with itself, however full it is.
        assert_eq!(denials.note(&bad_namespace(3)), News::Nothing);
        assert_eq!(denials.note(&large_value()), News::Rule);
        let notes = denials.into_notes();
        let (last, told) = notes.split_last().unwrap();
        assert_eq!(told.len(), NOTES + 1);
        assert_eq!((told[3].count, told[NOTES - 1].count), (2, 1));
        assert_eq!((told[NOTES].rule.as_str(), told[NOTES].count), ("too_large", 1));
        assert_eq!((last.rule.as_str(), last.count), ("bad_name", 84));
        assert!(last.reason.contains("84 more"), "{last:?}");
    }

    #[test]
    fn every_refusal_is_counted_and_every_rule_told_in_any_order() {
        // 41 is prime: each step goes through all numbers below it, in another order.
        for step in 1..41 {
            let mut denials = Denials::default();
            for turn in 0..82 {
                denials.note(&match turn * step % 41 {
                    0 => large_value(),
                    1 => denial(Call::Emit { event: "e".into(), data: vec![] }),
                    other => bad_namespace(other),
                });
            }
            let notes = denials.into_notes();
            assert!(notes.len() <= NOTES + 3, "step {step}: {}", notes.len());
            for (rule, count) in [("too_large", 2), ("cap_missing", 2), ("bad_name", 78)] {
                let told: u32 = notes.iter().filter(|note| note.rule == rule).map(|note| note.count).sum();
                assert_eq!(told, count, "step {step}: {rule}");
            }
        }
    }
}
