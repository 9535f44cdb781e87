//! Deleting by number and by age: what is past goes, what has not ended stays, and nobody waits.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use rusqlite::Connection;
use support::{block_on, config, finished, open, queued, record, row, tenant};
use void_api::{Mode, RunId, Timestamp};
use void_store::{Accept, EventFilter, Store, StoreConfig};

/// Waits until the store has deleted so many runs.
fn deleted(store: &Store, runs: u64) {
    let begin = Instant::now();
    while store.stats().deleted_runs < runs {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", store.stats());
        std::thread::yield_now();
    }
}

fn count(dir: &std::path::Path, table: &str) -> i64 {
    let conn = Connection::open(dir.join("void.db")).unwrap();
    conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn the_oldest_ended_runs_go_by_number_with_their_labels_and_events() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&StoreConfig { runs_keep: 200, ..config(dir.path()) }).unwrap();
    let a = tenant("a");
    let waits = record(Mode::Live);
    store.submit(queued(&a, &waits)).wait().unwrap();
    let mut ids = Vec::new();
    for n in 0..2_000 {
        let mut run = finished(record(Mode::Live));
        run.labels.insert("n".to_owned(), n.to_string());
        ids.push(run.run_id);
        let commit = store.submit(Accept::ended(row(&a, &run)));
        if n % 50 == 0 {
            commit.wait().unwrap();
        }
    }
    deleted(&store, 1_775);
    let exists = |id: RunId| block_on(store.get("a", id)).unwrap().is_some();
    assert!(exists(waits.run_id), "a run that has not ended was deleted");
    assert!(!exists(ids[0]) && !exists(ids[1_000]));
    assert!(ids[1_800..].iter().all(|id| exists(*id)), "too many were deleted");
    let kept = count(dir.path(), "runs");
    assert!((200..=226).contains(&kept), "{kept} runs kept");
    // The waiting run has one label, the others two.
    assert_eq!(count(dir.path(), "labels"), 2 * (kept - 1) + 1);
    // Events of runs that are gone are gone, and numbering goes on.
    let page = block_on(store.events_after(0, EventFilter::default(), 10_000)).unwrap();
    assert!(page.events.iter().all(|event| event.run_id == waits.run_id || exists(event.run_id)));
    assert_eq!(page.newest, 4_001);
}

#[test]
fn old_runs_go_by_age_and_frozen_ones_do_not_stand_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let a = tenant("a");
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let two_hours = 2 * 3_600_000;
    let mut old = Vec::new();
    let fresh = {
        let (store, _) = open(dir.path());
        for n in 0..1_500u64 {
            let mut run = record(if n % 3 == 0 { Mode::Frozen } else { Mode::Live });
            run.run_id = RunId::new(wall - two_hours, u128::from(n));
            if n % 3 != 0 {
                run = finished(run);
                run.finished_at = Some(Timestamp(wall - two_hours));
            }
            old.push(run.run_id);
            let _unawaited = store.submit(Accept::ended(row(&a, &run)));
        }
        let mut fresh = finished(record(Mode::Live));
        fresh.run_id = RunId::new(wall, 1);
        fresh.finished_at = Some(Timestamp(wall));
        store.submit(Accept::ended(row(&a, &fresh))).wait().unwrap();
        fresh.run_id
    };
    let (store, _) = Store::open(&StoreConfig { runs_keep_hours: 1, ..config(dir.path()) }).unwrap();
    deleted(&store, 1_500);
    assert!(block_on(store.get("a", fresh)).unwrap().is_some());
    assert_eq!(count(dir.path(), "runs"), 1);
    let last = block_on(store.events_after(0, EventFilter::default(), 10)).unwrap().newest;
    drop(store);
    // Numbers are not used again although nearly all rows are gone.
    let (store, _) = open(dir.path());
    let done = store.submit(Accept::ended(row(&a, &finished(record(Mode::Live))))).wait().unwrap();
    assert_eq!(done.newest, last + 2);
}

#[test]
fn expired_keys_go() {
    let dir = tempfile::tempdir().unwrap();
    let a = tenant("a");
    let keyed = |store: &Store, key: &str| {
        let run = record(Mode::Live);
        match block_on(store.reserve(&a, key, [1; 32], run.run_id)).unwrap() {
            void_store::Reserve::New(reservation) => {
                let mut accept = queued(&a, &run);
                accept.key = Some(reservation);
                store.submit(accept).wait().unwrap();
                true
            }
            _ => false,
        }
    };
    {
        let (store, _) = open(dir.path());
        for n in 0..20 {
            assert!(keyed(&store, &format!("{n}")));
        }
    }
    let conn = Connection::open(dir.path().join("void.db")).unwrap();
    conn.execute_batch("UPDATE keys SET expires_at = 5 WHERE id <= 10").unwrap();
    drop(conn);
    let (store, _) = open(dir.path());
    assert!(keyed(&store, "3"), "an expired key is free");
    assert!(!keyed(&store, "15"));
    let begin = Instant::now();
    while count(dir.path(), "keys") > 11 {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
}

#[test]
fn deleting_keeps_pace_with_writing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&StoreConfig { runs_keep: 500, ..config(dir.path()) }).unwrap();
    let a = tenant("a");
    for _ in 0..100 {
        let commits: Vec<_> =
            (0..64).map(|_| store.submit(Accept::ended(row(&a, &finished(record(Mode::Live)))))).collect();
        for commit in commits {
            commit.wait().unwrap();
        }
    }
    assert!(store.stats().deleted_runs > 5_000, "{:?}", store.stats());
}
