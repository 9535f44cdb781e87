//! A database of version 1 of the schema goes on as if it had always been one of today's.
//!
//! `data/version-1.db` was written by the service at commit d98cca0, asked by hand for what the tests below name, and killed.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use support::{block_on, config, finished, open, record, row, tenant};
use void_api::{Mode, Reason, RunId, Status};
use void_store::{
    Accept, Event, EventFilter, EventKind, KvKey, ListFilter, Recovery, Reserve, Store, StoreConfig,
};

use EventKind::{Error, Finished, GuestEmit, Started};

/// Of tenant a, oldest first: how each run was left, and which events it then had.
const OF_A: [(Status, &[EventKind]); 22] = [
    // Six that their client waited for.
    (Status::Finished, &[Started, Finished]),
    (Status::Finished, &[Started, Finished]),
    (Status::Finished, &[Started, Finished]),
    (Status::Finished, &[Started, Finished]),
    (Status::Finished, &[Started, Finished]),
    (Status::Finished, &[Started, Finished]),
    // With the idempotency key "first".
    (Status::Finished, &[Started, Finished]),
    // Of an export that is not there.
    (Status::Error, &[Started, Error]),
    // Whose guest emits.
    (Status::Finished, &[Started, GuestEmit, Finished]),
    // Whose guest sets the key "hello".
    (Status::Finished, &[Started, Finished]),
    // That its client did not wait for.
    (Status::Finished, &[Started, Finished]),
    // While execution was frozen.
    (Status::Frozen, &[]),
    // Guests that go on for ever: seven ran when the service was killed, three waited.
    (Status::Running, &[Started]),
    (Status::Running, &[Started]),
    (Status::Running, &[Started]),
    (Status::Running, &[Started]),
    (Status::Running, &[Started]),
    (Status::Running, &[Started]),
    (Status::Running, &[Started]),
    (Status::Accepted, &[Started]),
    (Status::Accepted, &[Started]),
    (Status::Accepted, &[Started]),
];
/// The number of the last event in the file.
const LAST_EVENT: u64 = 36;

fn version_1(dir: &Path) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/version-1.db");
    fs::copy(data, dir.join("void.db")).unwrap();
    assert_eq!(version(dir), 1);
}

fn version(dir: &Path) -> u32 {
    let conn = Connection::open(dir.join("void.db")).unwrap();
    conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// Oldest first.
fn runs(store: &Store, of: &str, filter: ListFilter) -> Vec<(RunId, Status)> {
    let page = block_on(store.list(of, ListFilter { limit: 500, ..filter })).unwrap();
    page.runs.iter().rev().map(|run| (run.run_id, run.status)).collect()
}

fn events(store: &Store, after: u64, filter: EventFilter) -> Vec<Event> {
    block_on(store.events_after(after, filter, 1_000)).unwrap().events
}

fn kinds(store: &Store, run_id: RunId) -> Vec<EventKind> {
    let one = EventFilter { run_id: Some(run_id), ..EventFilter::default() };
    events(store, 0, one).iter().map(|event| event.kind).collect()
}

/// The runs of tenant a.
fn check_runs(store: &Store, recovery: &Recovery) -> Vec<RunId> {
    assert_eq!((recovery.interrupted.len(), recovery.pending.len()), (7, 3));
    assert!(recovery.pending.iter().all(|pending| !pending.request.is_empty()));
    let found = runs(store, "a", ListFilter::default());
    assert_eq!(found.len(), OF_A.len());
    for ((run_id, status), (left, told)) in found.iter().zip(OF_A) {
        let run = block_on(store.get("a", *run_id)).unwrap().unwrap();
        let record = run.record().unwrap();
        assert_eq!((record.run_id, record.status), (*run_id, *status));
        if left == Status::Running {
            assert_eq!((record.status, record.reason), (Status::Error, Some(Reason::Interrupted)));
            assert_eq!(kinds(store, *run_id), [told, &[Error]].concat());
        } else {
            assert_eq!((record.status, kinds(store, *run_id).as_slice()), (left, told), "{run_id}");
        }
    }
    found.into_iter().map(|(run_id, _)| run_id).collect()
}

#[test]
fn runs_events_keys_and_values_stay_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    version_1(dir.path());
    let (store, recovery) = open(dir.path());
    assert_eq!(version(dir.path()), 2);
    let of_a = check_runs(&store, &recovery);
    let of_b = runs(&store, "b", ListFilter::default());
    assert_eq!(of_b.iter().map(|(_, status)| *status).collect::<Vec<_>>(), [Status::Finished; 2]);
    // The second of them was a dry run, which does not start.
    assert_eq!((kinds(&store, of_b[0].0).len(), kinds(&store, of_b[1].0)), (2, vec![Finished]));

    // What a client had seen before stays where it was.
    let all = events(&store, 0, EventFilter::default());
    assert_eq!(
        all.iter().map(|event| event.seq).collect::<Vec<_>>(),
        (1..=LAST_EVENT + 7).collect::<Vec<_>>()
    );
    for after in 0..LAST_EVENT + 7 {
        assert_eq!(events(&store, after, EventFilter::default()), all[after as usize..]);
    }
    assert!(all[LAST_EVENT as usize..].iter().all(|event| recovery.interrupted.contains(&event.run_id)));

    // New runs come after the old ones, in lists and among the events.
    let a = tenant("a");
    let mut new = finished(record(Mode::Live));
    new.run_id = RunId::from_u128(of_a[OF_A.len() - 1].as_u128() + 1);
    store.submit(Accept::ended(row(&a, &new))).wait().unwrap();
    let again = store.submit(Accept::ended(row(&a, &new))).wait();
    assert!(again.is_err(), "a name was taken twice");
    let told: Vec<_> = events(&store, LAST_EVENT + 7, EventFilter::default());
    assert_eq!(
        told.iter().map(|event| (event.seq, event.kind, event.run_id)).collect::<Vec<_>>(),
        [(LAST_EVENT + 8, Started, new.run_id), (LAST_EVENT + 9, Finished, new.run_id)]
    );
    assert_eq!(runs(&store, "a", ListFilter::default()).last(), Some(&(new.run_id, Status::Finished)));

    let label = ListFilter { labels: vec![("n".to_owned(), "8".to_owned())], ..ListFilter::default() };
    assert_eq!(runs(&store, "a", label), [(of_a[21], Status::Accepted)]);
    let errors = ListFilter { status: Some(Status::Error), ..ListFilter::default() };
    assert_eq!(runs(&store, "a", errors).len(), 1 + 7);
    let key = KvKey { tenant: a, space: "hello".to_owned(), key: b"hello".to_vec() };
    assert_eq!(block_on(store.kv_get(key)).unwrap().as_deref(), Some(b"hello".as_slice()));
}

#[test]
fn an_idempotency_key_still_names_its_run() {
    let dir = tempfile::tempdir().unwrap();
    version_1(dir.path());
    // Keys live for a day: this one is made to be of today.
    let conn = Connection::open(dir.path().join("void.db")).unwrap();
    conn.execute_batch("UPDATE keys SET expires_at = expires_at + 100000000000000").unwrap();
    drop(conn);
    let (store, _) = open(dir.path());
    let run_id = runs(&store, "a", ListFilter::default())[6].0;
    let new = record(Mode::Live).run_id;
    match block_on(store.reserve(&tenant("a"), "first", [9; 32], new)).unwrap() {
        Reserve::Mismatch { run_id: first } => assert_eq!(first, run_id),
        other => unreachable!("another request with a known key: {other:?}"),
    }
}

#[test]
fn keeping_by_number_counts_old_and_new_runs_alike() {
    const KEEP: u64 = 12;
    let dir = tempfile::tempdir().unwrap();
    version_1(dir.path());
    let (store, recovery) = Store::open(&StoreConfig { runs_keep: KEEP, ..config(dir.path()) }).unwrap();
    let a = tenant("a");
    let mut new = Vec::new();
    for _ in 0..8 {
        let run = finished(record(Mode::Live));
        store.submit(Accept::ended(row(&a, &run))).wait().unwrap();
        new.push(run.run_id);
    }
    let begin = std::time::Instant::now();
    // Of 32 runs 12 are the newest, and of those that are older the three that have not ended stay.
    let waiting = recovery.pending.len() as u64;
    let most = KEEP + waiting + 1;
    let stored = || runs(&store, "a", ListFilter::default());
    while stored().len() as u64 > most {
        assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{:?}", store.stats());
        std::thread::yield_now();
    }
    let stored = stored();
    assert!(stored.len() as u64 >= KEEP, "{stored:?}");
    assert!(new.iter().all(|id| stored.iter().any(|(run_id, _)| run_id == id)));
    assert!(recovery.pending.iter().all(|open| stored.iter().any(|(id, _)| *id == open.record.run_id)));
    let told = events(&store, 0, EventFilter::default());
    assert!(told.iter().all(|event| stored.iter().any(|(run_id, _)| *run_id == event.run_id)));
}
