//! Batches that are committed on the caller's own thread: at once where nobody else writes, and else like all others.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::Connection;
use support::{block_on, config, finished, open, record, row, running, tenant};
use void_api::Mode;
use void_store::{Accept, Change, Emit, EventFilter, EventKind, Store, StoreConfig};

fn ended() -> Accept {
    Accept::ended(row(&tenant("a"), &finished(record(Mode::Live))))
}

/// How many of 200 batches were committed on this thread, and whether each was when the call came back.
fn at_once(store: &Store, own: usize) -> u64 {
    let alone = || store.stats().alone;
    let before = alone();
    for _ in 0..200 {
        let known = alone();
        let mut commit = pin!(store.submit_alone(ended(), own));
        if alone() > known {
            let end = commit.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(end, Poll::Ready(Ok(_))), "{end:?}");
        } else {
            block_on(commit).unwrap();
        }
    }
    alone() - before
}

fn is_ever_at_once(store: &Store, own: usize) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        if at_once(store, own) > 0 {
            return true;
        }
    }
    false
}

#[test]
fn alone_it_is_committed_before_the_call_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    // How many is not promised: the writer thread looks after the storage now and then, and on a busy machine the storage
    // looks slow.
    assert!(is_ever_at_once(&store, 0));
    let expected = store.expect();
    assert_eq!(at_once(&store, 0), 0, "another one is expected");
    assert!(is_ever_at_once(&store, 1), "the one expected is the caller's");
    drop(expected);
    assert!(is_ever_at_once(&store, 0), "nobody is expected any more");
    let stats = store.stats();
    assert_eq!(stats.batches, stats.groups, "one a group");
    assert_eq!(store.watch_events().borrow().to_owned(), 2 * stats.batches, "those who stream were told");
}

#[test]
fn with_full_durability_no_caller_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&StoreConfig { full_durability: true, ..config(dir.path()) }).unwrap();
    assert_eq!(at_once(&store, 0), 0);
}

#[test]
fn it_overtakes_nothing_that_was_submitted_before() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = tenant("a");
    for _ in 0..500 {
        let run = record(Mode::Live);
        let begun = store.submit(Accept::begun(row(&a, &running(run.clone()))));
        let emit = Emit { at: 5, data: Bytes::from_static(b"{}") };
        let emitted = store.submit(Change::Emit { tenant: a.clone(), run_id: run.run_id, emit });
        // The end of a run that the store does not know, or an event after the end, would be refused.
        store.submit_alone(Change::Ended(Box::new(row(&a, &finished(run.clone())))), 0).wait().unwrap();
        begun.wait().unwrap();
        emitted.wait().unwrap();
    }
}

#[test]
fn nobody_waits_for_a_lock_on_the_callers_thread() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    assert!(is_ever_at_once(&store, 0));
    let other = Connection::open(dir.path().join("void.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begin = Instant::now();
    let commit = store.submit_alone(ended(), 0);
    // The writer thread waits for it two seconds.
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    other.execute_batch("ROLLBACK").unwrap();
    commit.wait().unwrap();
    assert_eq!(store.stats().failed_groups, 0);
    let again = at_once(&store, 0);
    assert!(
        again == 0 || begin.elapsed() > Duration::from_secs(1),
        "it was tried here, and is not for a second"
    );
}

#[test]
fn many_threads_together_lose_nothing_and_number_events_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ids = thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|n| {
                let store = &store;
                scope.spawn(move || {
                    (0..1000)
                        .map(|turn| {
                            let run = finished(record(Mode::Live));
                            let accept = Accept::ended(row(&tenant("a"), &run));
                            let commit = if (n + turn) % 3 == 0 {
                                store.submit(accept)
                            } else {
                                store.submit_alone(accept, 0)
                            };
                            commit.wait().unwrap();
                            run.run_id
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<BTreeSet<_>>()
    });
    assert_eq!(ids.len(), 4000);
    let (mut seen, mut after) = (BTreeSet::new(), 0);
    while after < 8000 {
        let page = block_on(store.events_after(after, EventFilter::default(), 1000)).unwrap();
        for event in page.events {
            after += 1;
            assert_eq!(event.seq, after);
            assert!(event.kind != EventKind::Finished || seen.insert(event.run_id));
        }
    }
    assert_eq!(seen, ids);
}

#[test]
fn what_is_past_its_number_goes_though_the_writer_thread_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&StoreConfig { runs_keep: 100, ..config(dir.path()) }).unwrap();
    let done = AtomicBool::new(false);
    for _ in 0..2000 {
        store.submit_alone(ended(), 0).wait().unwrap();
        done.store(store.stats().deleted_runs > 1500, Ordering::Relaxed);
    }
    assert!(done.into_inner(), "{:?}", store.stats());
}
