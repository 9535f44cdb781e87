//! Refused calls of one run, gathered for its record: each refusal once with a count, and no rule that a guest could hide
//! behind others.

use void_api::DenialNote;
use void_policy::judge::Denial;

/// Different refusals that one record holds. The first one by each rule, of each kind of call, has room even beyond that: they
/// are closed sets, so there are not many.
const NOTES: usize = 16;

/// The refusals of one run.
#[derive(Debug, Default)]
pub(super) struct Denials(Vec<Note>);

/// One refusal, and those by the same rule of which it stands for all.
#[derive(Debug)]
struct Note {
    denial: Denial,
    /// How often it was met.
    count: u32,
    /// Other refusals by its rule, of its kind of call, that have no room.
    others: u32,
}

/// What a refusal is beside those before it in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The first one by its rule, of its kind of call.
    Rule,
    /// Another one by a rule that has refused before.
    Reason,
    /// It has a note.
    Nothing,
}

impl Denials {
    /// Notes a refusal.
    pub(super) fn note(&mut self, denial: &Denial) -> News {
        let same =
            |note: &&mut Note| same_rule(&note.denial, denial) && note.denial.reason() == denial.reason();
        if let Some(note) = self.0.iter_mut().find(same) {
            note.count = note.count.saturating_add(1);
            return News::Nothing;
        }
        let full = self.0.len() >= NOTES;
        let last = self.0.iter_mut().rfind(|note| same_rule(&note.denial, denial));
        let news = if last.is_some() { News::Reason } else { News::Rule };
        match last {
            Some(last) if full => {
                last.others = last.others.saturating_add(1);
                return news;
            }
            Some(_) => {}
            None if full => self.make_room(),
            None => {}
        }
        self.0.push(Note { denial: denial.clone(), count: 1, others: 0 });
        news
    }

    /// Takes out the last note of the rule that has the most, and lets the one before it stand for it. Where each rule has one
    /// there is nothing to take.
    fn make_room(&mut self) {
        let of = |which: &Note| self.0.iter().filter(|note| same_rule(&note.denial, &which.denial)).count();
        let most = self.0.iter().enumerate().max_by_key(|(_, note)| of(note));
        let Some((place, _)) = most.filter(|(_, note)| of(note) > 1) else { return };
        let gone = self.0.remove(place);
        if let Some(note) = self.0.iter_mut().rfind(|note| same_rule(&note.denial, &gone.denial)) {
            note.others = note.others.saturating_add(gone.count).saturating_add(gone.others);
        }
    }

    /// As the record tells them.
    pub(super) fn into_notes(self) -> Vec<DenialNote> {
        self.0.iter().map(Note::told).collect()
    }
}

impl Note {
    fn told(&self) -> DenialNote {
        let mut told = self.denial.note(self.count.saturating_add(self.others));
        if self.others > 0 {
            told.reason = format!(
                "{} (met: {}; further calls that this rule refused: {})",
                told.reason, self.count, self.others
            );
        }
        told
    }
}

fn same_rule(one: &Denial, other: &Denial) -> bool {
    one.kind() == other.kind() && one.rule() == other.rule()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use void_policy::judge::{Call, KvAsk, KvCall, Misfit, Part, Spent, Terms, Unfit, judge};
    use void_policy::rate::HttpRates;
    use void_policy::{Settings, Tenant};

    fn denial(call: Call) -> Denial {
        denial_under("kv", call)
    }

    fn denial_under(caps: &str, call: Call) -> Denial {
        let vars = [("WASM_CAPS".to_owned(), caps.to_owned())];
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
    fn many_of_one_rule_do_not_hide_another_and_say_how_many_they_are() {
        let mut denials = Denials::default();
        for number in 0..100 {
            let news = denials.note(&bad_namespace(number));
            assert_eq!(news, if number == 0 { News::Rule } else { News::Reason });
        }
        // One that the record has counts with itself, however full it is.
        assert_eq!(denials.note(&bad_namespace(3)), News::Nothing);
        assert_eq!(denials.note(&large_value()), News::Rule);
        let notes = denials.into_notes();
        let counts: Vec<_> = notes.iter().map(|note| (note.rule.as_str(), note.count)).collect();
        let mut expected = vec![("bad_name", 1); NOTES - 2];
        expected[3].1 = 2;
        expected.extend([("bad_name", 1 + 85), ("too_large", 1)]);
        assert_eq!(counts, expected);
        let last = &notes[NOTES - 2];
        assert!(
            last.reason.contains("/14")
                && last.reason.ends_with("(met: 1; further calls that this rule refused: 85)")
        );
    }

    #[test]
    fn the_first_of_each_rule_has_room_beyond_all() {
        let mut denials = Denials::default();
        let calls = [Part::Namespace as fn(KvCall) -> Part, Part::Key];
        let kv = [KvCall::Get, KvCall::Set, KvCall::Delete];
        let kv = calls.iter().flat_map(|part| kv.map(part));
        let others = [Part::EventName, Part::Url, Part::Method, Part::HeaderText, Part::Body, Part::Value];
        let mut met = BTreeSet::new();
        for part in kv.chain(others) {
            for misfit in [Misfit::Invalid, Misfit::TooLarge { size: 1 }, Misfit::TooLarge { size: 2 }] {
                for caps in ["emit,http,kv", ""] {
                    let denial = denial_under(caps, Call::Unfit(Unfit { part, misfit }));
                    denials.note(&denial);
                    met.insert((denial.kind().as_str(), denial.rule().as_str()));
                }
            }
        }
        assert!(met.len() > NOTES, "{met:?}");
        let notes = denials.into_notes();
        let told: BTreeSet<_> = notes.iter().map(|note| (note.kind.as_str(), note.rule.as_str())).collect();
        assert_eq!((told, notes.len()), (met.clone(), met.len()));
        assert_eq!(notes.iter().map(|note| note.count).sum::<u32>(), 12 * 3 * 2);
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
            assert!(notes.len() <= NOTES, "step {step}: {}", notes.len());
            for (rule, count) in [("too_large", 2), ("cap_missing", 2), ("bad_name", 78)] {
                let told: u32 = notes.iter().filter(|note| note.rule == rule).map(|note| note.count).sum();
                assert_eq!(told, count, "step {step}: {rule}");
            }
        }
    }
}
