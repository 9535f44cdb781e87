//! Idempotency: of many requests with one key one begins a run, the others learn of it, also across restarts.
#![allow(clippy::unwrap_used, clippy::result_large_err, missing_docs)]

mod support;

use std::sync::{Arc, Barrier};

use bytes::Bytes;
use support::{block_on, new_id, open, record, row, tenant};
use void_api::{Mode, RunId};
use void_store::{Accept, Reserve, Store, WriteError};

fn begin(store: &Store, tenant: &Arc<str>, key: &str, fingerprint: [u8; 32]) -> Result<RunId, Reserve> {
    let run = record(Mode::Live);
    match block_on(store.reserve(tenant, key, fingerprint, run.run_id)).unwrap() {
        Reserve::New(reservation) => {
            let accept = Accept::queued(row(tenant, &run), Bytes::new(), Bytes::new(), Some(reservation));
            block_on(store.submit(accept)).unwrap();
            Ok(run.run_id)
        }
        other => Err(other),
    }
}

#[test]
fn simultaneous_requests_with_one_key_begin_one_run() {
    const THREADS: usize = 16;
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let store = Arc::new(store);
    let a = tenant("a");
    for round in 0..100 {
        let barrier = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (store, barrier, a) = (Arc::clone(&store), Arc::clone(&barrier), Arc::clone(&a));
                std::thread::spawn(move || {
                    barrier.wait();
                    begin(&store, &a, &format!("key {round}"), [1; 32])
                })
            })
            .collect();
        let ends: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let new: Vec<_> = ends.iter().filter_map(|end| end.as_ref().ok()).collect();
        assert_eq!(new.len(), 1, "round {round}: {ends:?}");
        for end in &ends {
            if let Err(Reserve::Seen { run_id }) = end {
                assert_eq!(run_id, new[0]);
                let found = block_on(store.get("a", *run_id)).unwrap();
                assert!(found.is_some(), "a run was named before it was stored");
            }
        }
    }
    let page =
        block_on(store.list("a", void_store::ListFilter { limit: 500, ..Default::default() })).unwrap();
    assert_eq!(page.runs.len(), 100);
}

#[test]
fn a_key_holds_its_request_its_tenant_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (tenant("a"), tenant("b"));
    let first = {
        let (store, _) = open(dir.path());
        let first = begin(&store, &a, "k", [1; 32]).unwrap();
        assert!(matches!(begin(&store, &a, "k", [1; 32]), Err(Reserve::Seen { run_id }) if run_id == first));
        assert!(
            matches!(begin(&store, &a, "k", [2; 32]), Err(Reserve::Mismatch { run_id }) if run_id == first)
        );
        assert!(begin(&store, &b, "k", [1; 32]).is_ok(), "keys of two tenants are two keys");
        first
    };
    // Asked at once, before the filter can have been filled, and again afterwards.
    for wait in [false, true] {
        let (store, _) = open(dir.path());
        if wait {
            while block_on(store.reserve(&a, &format!("fresh {}", new_id()), [0; 32], new_id())).is_err() {}
        }
        assert!(matches!(begin(&store, &a, "k", [1; 32]), Err(Reserve::Seen { run_id }) if run_id == first));
        assert!(
            matches!(begin(&store, &a, "k", [3; 32]), Err(Reserve::Mismatch { run_id }) if run_id == first)
        );
    }
}

#[test]
fn a_reservation_given_up_frees_the_key_for_those_who_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let store = Arc::new(store);
    let a = tenant("a");
    let Reserve::New(reservation) = block_on(store.reserve(&a, "k", [1; 32], new_id())).unwrap() else {
        unreachable!("the key is fresh")
    };
    let waiting = {
        let (store, a) = (Arc::clone(&store), Arc::clone(&a));
        std::thread::spawn(move || begin(&store, &a, "k", [1; 32]))
    };
    drop(reservation);
    assert!(waiting.join().unwrap().is_ok());
}

#[test]
fn a_commit_that_fails_frees_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = tenant("a");
    let taken = record(Mode::Live);
    store.submit(support::queued(&a, &taken)).wait().unwrap();
    let Reserve::New(reservation) = block_on(store.reserve(&a, "k", [1; 32], taken.run_id)).unwrap() else {
        unreachable!("the key is fresh")
    };
    let accept = Accept::queued(row(&a, &taken), Bytes::new(), Bytes::new(), Some(reservation));
    assert_eq!(store.submit(accept).wait(), Err(WriteError::DuplicateRun(taken.run_id)));
    assert!(begin(&store, &a, "k", [9; 32]).is_ok());
}
