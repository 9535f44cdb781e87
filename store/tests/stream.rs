//! Events: whatever happens to runs, each has at most one start, then exactly one end, and a reader that resumes
//! anywhere misses nothing and sees nothing twice.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;
use support::{block_on, finished, open, queued, record, row, running, tenant};
use void_api::{Mode, Reason, RunId, RunRecord, Status};
use void_store::{Accept, Batch, Change, Emit, Event, EventFilter, EventKind, Store};

/// What happens next; the number chooses the run.
#[derive(Debug, Clone, Copy)]
enum Step {
    Queue(Mode),
    Begin(Mode),
    Direct(Mode, Status),
    Start(usize),
    Emit(usize),
    End(usize, Status),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mode = prop_oneof![Just(Mode::Live), Just(Mode::Canary), Just(Mode::DryRun)];
    let end = prop_oneof![Just(Status::Finished), Just(Status::Error), Just(Status::Cancelled)];
    let step = prop_oneof![
        4 => mode.clone().prop_map(Step::Queue),
        2 => mode.clone().prop_map(Step::Begin),
        2 => (mode, end.clone()).prop_map(|(mode, end)| Step::Direct(mode, end)),
        1 => Just(Step::Direct(Mode::Frozen, Status::Frozen)),
        4 => (0..20usize).prop_map(Step::Start),
        2 => (0..20usize).prop_map(Step::Emit),
        6 => (0..20usize, end).prop_map(|(run, end)| Step::End(run, end)),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

fn end(record: &RunRecord, status: Status) -> RunRecord {
    let mut end = finished(record.clone());
    end.status = status;
    end.reason = (status == Status::Error).then_some(Reason::Trap);
    end
}

fn read_all(store: &Store, mut after: u64, limit: usize, filter: &EventFilter) -> Vec<Event> {
    let reader = store.reader().unwrap();
    let mut events = Vec::new();
    loop {
        let page = reader.events_after(after, filter, limit).unwrap();
        events.extend(page.events);
        after = page.scanned_to;
        if page.scanned_to >= page.newest {
            return events;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_life_is_told_once_and_in_order(steps in steps(), limit in 1..9usize) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        let a = tenant("a");
        let mut runs: Vec<RunRecord> = Vec::new();
        let pick = |runs: &[RunRecord], n: usize| runs.get(n % runs.len().max(1)).cloned();
        for step in steps {
            // Refusals are part of the game: the same run is ended twice, started late, and so on.
            let batch: Batch = match step {
                Step::Queue(mode) => {
                    runs.push(record(mode));
                    queued(&a, &runs[runs.len() - 1]).into()
                }
                Step::Begin(mode) => {
                    runs.push(running(record(mode)));
                    queued(&a, &runs[runs.len() - 1]).into()
                }
                Step::Direct(mode, status) => {
                    let run = if mode == Mode::Frozen { record(mode) } else { end(&record(mode), status) };
                    runs.push(run);
                    Accept::ended(row(&a, &runs[runs.len() - 1])).into()
                }
                Step::Start(n) => match pick(&runs, n) {
                    Some(run) => Change::Started { tenant: a.clone(), run_id: run.run_id, at: 1 }.into(),
                    None => continue,
                },
                Step::Emit(n) => match pick(&runs, n) {
                    Some(run) => {
                        let emit = Emit { at: 1, data: Bytes::from_static(b"{}") };
                        Change::Emit { tenant: a.clone(), run_id: run.run_id, emit }.into()
                    }
                    None => continue,
                },
                Step::End(n, status) => match pick(&runs, n) {
                    Some(run) => Change::Ended(Box::new(row(&a, &end(&run, status)))).into(),
                    None => continue,
                },
                Step::Restart => {
                    drop(store);
                    store = open(dir.path()).0;
                    continue;
                }
            };
            let _may_be_refused = store.submit(batch).wait();
        }
        let everything = EventFilter::default();
        let all = read_all(&store, 0, 1000, &everything);
        prop_assert!(all.is_sorted_by(|one, next| one.seq < next.seq));
        let mut lives: HashMap<RunId, Vec<EventKind>> = HashMap::new();
        for event in &all {
            lives.entry(event.run_id).or_default().push(event.kind);
        }
        for run in &runs {
            let stored = block_on(store.get("a", run.run_id)).unwrap().unwrap();
            let life = lives.get(&run.run_id).cloned().unwrap_or_default();
            let starts = life.iter().filter(|kind| **kind == EventKind::Started).count();
            let ends = life.iter().filter(|kind| matches!(kind, EventKind::Finished | EventKind::Error)).count();
            prop_assert_eq!(starts, usize::from(run.mode.executes()), "{:?}", life);
            let ended = stored.status.is_terminal() && stored.status != Status::Frozen;
            prop_assert_eq!(ends, usize::from(ended), "{:?} {:?}", stored.status, life);
            if starts == 1 {
                prop_assert_eq!(life[0], EventKind::Started);
            }
            if let Some(last) = life.last().filter(|_| ended) {
                let expected = if stored.status == Status::Finished { EventKind::Finished } else { EventKind::Error };
                prop_assert_eq!(*last, expected);
            }
            let one = EventFilter { run_id: Some(run.run_id), ..EventFilter::default() };
            let own: Vec<_> = read_all(&store, 0, limit, &one).iter().map(|event| event.kind).collect();
            prop_assert_eq!(own, life);
        }
        for (index, event) in all.iter().enumerate() {
            prop_assert_eq!(&read_all(&store, event.seq, limit, &everything), &all[index + 1..]);
            prop_assert_eq!(&read_all(&store, event.seq - 1, limit, &everything), &all[index..]);
        }
        for kind in [EventKind::Started, EventKind::Finished, EventKind::Error, EventKind::GuestEmit] {
            let filter = EventFilter { kind: Some(kind), tenant: Some("a".to_owned()), ..EventFilter::default() };
            let found = read_all(&store, 0, limit, &filter);
            prop_assert_eq!(found, all.iter().filter(|event| event.kind == kind).cloned().collect::<Vec<_>>());
        }
        let none = EventFilter { tenant: Some("b".to_owned()), ..EventFilter::default() };
        prop_assert!(read_all(&store, 0, limit, &none).is_empty());
    }
}

#[test]
fn a_reader_is_told_of_each_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut news = store.watch_events();
    assert_eq!(*news.borrow_and_update(), 0);
    let a = tenant("a");
    for n in 1..=5 {
        store.submit(Accept::ended(row(&a, &finished(record(Mode::Live))))).wait().unwrap();
        block_on(news.changed()).unwrap();
        assert_eq!(*news.borrow_and_update(), 2 * n);
    }
}

#[test]
fn a_reader_far_behind_misses_no_half_of_a_pair() {
    // More than are looked at in one call, so that a look ends beside each of the rare tenant's pairs for some reader.
    const RUNS: u64 = 10_010;
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (a, b) = (tenant("a"), tenant("b"));
    let commits: Vec<_> = (1..=RUNS)
        .map(|n| {
            let of = if (5..10_000).contains(&n) { &a } else { &b };
            store.submit(Accept::ended(row(of, &finished(record(Mode::Live)))))
        })
        .collect();
    for commit in commits {
        commit.wait().unwrap();
    }
    let filter = EventFilter { tenant: Some("b".to_owned()), ..EventFilter::default() };
    let all: Vec<u64> = (1..=8).chain(19_999..=2 * RUNS).collect();
    for after in 0..=8 {
        let seen: Vec<_> = read_all(&store, after, 128, &filter).iter().map(|event| event.seq).collect();
        assert_eq!(seen, all[after as usize..], "after {after}");
    }
    let starts = EventFilter { kind: Some(EventKind::Started), ..filter };
    for after in 0..=8 {
        let seen: Vec<_> = read_all(&store, after, 128, &starts).iter().map(|event| event.seq).collect();
        let wanted: Vec<_> = all[after as usize..].iter().copied().filter(|seq| seq % 2 == 1).collect();
        assert_eq!(seen, wanted, "starts after {after}");
    }
}
