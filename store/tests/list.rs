//! Lists: filters, and cursors that stay right while runs are added.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{block_on, finished, open, queued, record, row, tenant};
use void_api::{Mode, RunId, Status};
use void_store::{Accept, ListFilter, ReadError, Store};

fn all(store: &Store, of: &str, filter: &ListFilter) -> Vec<RunId> {
    let mut filter = filter.clone();
    let mut found = Vec::new();
    loop {
        let page = block_on(store.list(of, filter.clone())).unwrap();
        assert!(page.runs.len() <= filter.limit.max(1));
        found.extend(page.runs.iter().map(|run| run.run_id));
        match page.cursor {
            Some(cursor) => filter.cursor = Some(cursor),
            None => return found,
        }
    }
}

#[test]
fn filters_choose_and_order_is_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = tenant("a");
    let mut runs = Vec::new();
    for n in 0..60 {
        let mode = if n % 3 == 0 { Mode::Canary } else { Mode::Live };
        let mut run = record(mode);
        run.labels.insert("third".to_owned(), (n % 3).to_string());
        run.labels.insert("fifth".to_owned(), (n % 5).to_string());
        if n % 2 == 0 {
            run = finished(run);
            store.submit(Accept::ended(row(&a, &run))).wait().unwrap();
        } else {
            store.submit(queued(&a, &run)).wait().unwrap();
        }
        runs.push(run);
    }
    store.submit(queued(&tenant("b"), &record(Mode::Live))).wait().unwrap();
    runs.reverse();
    let expect = |wanted: &dyn Fn(&void_api::RunRecord) -> bool| {
        runs.iter().filter(|run| wanted(run)).map(|run| run.run_id).collect::<Vec<_>>()
    };
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    for limit in [1, 7, 30, 500] {
        let base = ListFilter { limit, ..ListFilter::default() };
        assert_eq!(all(&store, "a", &base), expect(&|_| true));
        let filter = ListFilter { status: Some(Status::Finished), ..base.clone() };
        assert_eq!(all(&store, "a", &filter), expect(&|run| run.status == Status::Finished));
        let filter = ListFilter { mode: Some(Mode::Canary), status: Some(Status::Accepted), ..base.clone() };
        assert_eq!(
            all(&store, "a", &filter),
            expect(&|run| run.mode == Mode::Canary && run.status == Status::Accepted)
        );
        let filter = ListFilter { labels: vec![label("third", "1")], ..base.clone() };
        assert_eq!(all(&store, "a", &filter), expect(&|run| run.labels["third"] == "1"));
        let filter = ListFilter {
            labels: vec![label("third", "1"), label("fifth", "4"), label("repo", "void")],
            status: Some(Status::Finished),
            ..base.clone()
        };
        assert_eq!(
            all(&store, "a", &filter),
            expect(&|run| run.labels["third"] == "1"
                && run.labels["fifth"] == "4"
                && run.status == Status::Finished)
        );
        let filter = ListFilter { labels: vec![label("third", "9")], ..base };
        assert!(all(&store, "a", &filter).is_empty());
    }
    assert!(all(&store, "c", &ListFilter::default()).is_empty());
}

#[test]
fn labels_that_look_alike_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = tenant("a");
    let mut one = record(Mode::Live);
    one.labels.insert("a=b".to_owned(), "c".to_owned());
    let mut two = record(Mode::Live);
    two.labels.insert("a".to_owned(), "b=c".to_owned());
    store.submit(queued(&a, &one)).wait().unwrap();
    store.submit(queued(&a, &two)).wait().unwrap();
    let with = |key: &str, value: &str| ListFilter {
        labels: vec![(key.to_owned(), value.to_owned())],
        limit: 10,
        ..ListFilter::default()
    };
    assert_eq!(all(&store, "a", &with("a=b", "c")), [one.run_id]);
    assert_eq!(all(&store, "a", &with("a", "b=c")), [two.run_id]);
}

#[test]
fn pages_neither_repeat_nor_leave_out_while_runs_are_added() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let store = Arc::new(store);
    let a = tenant("a");
    let first: Vec<_> = (0..300).map(|_| finished(record(Mode::Live))).collect();
    for run in &first {
        store.submit(Accept::ended(row(&a, run))).wait().unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let adding = {
        let (store, a, stop) = (Arc::clone(&store), Arc::clone(&a), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut added = 0;
            while !stop.load(Ordering::Relaxed) {
                store.submit(Accept::ended(row(&a, &finished(record(Mode::Live))))).wait().unwrap();
                added += 1;
            }
            added
        })
    };
    let old: Vec<_> = first.iter().rev().map(|run| run.run_id).collect();
    for _ in 0..20 {
        let found = all(&store, "a", &ListFilter { limit: 7, ..ListFilter::default() });
        let tail = &found[found.len() - old.len()..];
        assert_eq!(tail, old);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(adding.join().unwrap() > 0);
}

#[test]
fn a_cursor_from_elsewhere_is_refused_and_a_foreign_one_shows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let run = record(Mode::Live);
    store.submit(queued(&tenant("a"), &run)).wait().unwrap();
    store.submit(queued(&tenant("b"), &record(Mode::Live))).wait().unwrap();
    let with =
        |cursor: &str| ListFilter { cursor: Some(cursor.to_owned()), limit: 5, ..ListFilter::default() };
    assert_eq!(block_on(store.list("a", with("17"))).err(), Some(ReadError::Cursor));
    assert!(block_on(store.list("b", with(&run.run_id.to_string()))).unwrap().runs.is_empty());
}

#[test]
fn a_page_of_large_records_ends_early_and_the_next_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = tenant("a");
    let mut runs: Vec<RunId> = (0..20)
        .map(|_| {
            let mut run = finished(record(Mode::Live));
            run.stdout = Some("x".repeat(1 << 20));
            store.submit(Accept::ended(row(&a, &run))).wait().unwrap();
            run.run_id
        })
        .collect();
    runs.reverse();
    let filter = ListFilter { limit: 500, ..ListFilter::default() };
    let first = block_on(store.list("a", filter.clone())).unwrap();
    assert!((8..=9).contains(&first.runs.len()) && first.cursor.is_some(), "{}", first.runs.len());
    assert_eq!(all(&store, "a", &filter), runs);
}

#[test]
fn a_cursor_stays_good_when_its_run_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = tenant("a");
    let runs: Vec<_> = (0..10).map(|_| record(Mode::Live)).collect();
    for run in &runs {
        store.submit(queued(&a, run)).wait().unwrap();
    }
    // As retention does with one that has ended among others that have not.
    let other = rusqlite::Connection::open(dir.path().join("void.db")).unwrap();
    let id = runs[6].run_id.as_u128().to_be_bytes();
    assert_eq!(other.execute("DELETE FROM runs WHERE run_id = ?1", [&id]).unwrap(), 1);
    assert_eq!(other.execute("DELETE FROM labels WHERE run_id = ?1", [&id]).unwrap(), 1);
    let older: Vec<_> = runs[..6].iter().rev().map(|run| run.run_id).collect();
    for labels in [vec![], vec![("repo".to_owned(), "void".to_owned())]] {
        let cursor = Some(runs[6].run_id.to_string());
        assert_eq!(
            all(&store, "a", &ListFilter { labels, cursor, limit: 4, ..ListFilter::default() }),
            older
        );
    }
}

#[test]
fn runs_stored_in_another_order_are_listed_in_the_order_of_their_acceptance() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = tenant("a");
    let runs: Vec<_> = (0..9).map(|_| finished(record(Mode::Live))).collect();
    for place in [4, 0, 8, 2, 1, 7, 3, 6, 5] {
        store.submit(Accept::ended(row(&a, &runs[place]))).wait().unwrap();
    }
    let newest_first: Vec<_> = runs.iter().rev().map(|run| run.run_id).collect();
    for labels in [vec![], vec![("repo".to_owned(), "void".to_owned())]] {
        assert_eq!(all(&store, "a", &ListFilter { labels, limit: 2, ..ListFilter::default() }), newest_first);
    }
}
