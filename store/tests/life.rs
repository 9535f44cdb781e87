//! The life of a run in the store: what each step leaves to read, and which events it writes.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use bytes::Bytes;
use support::{block_on, finished, new_id, open, queued, record, row, running, tenant};
use void_api::{Mode, Reason, RunId, Status, Timestamp};
use void_store::{Accept, Batch, Change, Emit, EventFilter, EventKind, Store, WriteError};

fn kinds(store: &Store, run_id: RunId) -> Vec<EventKind> {
    let filter = EventFilter { run_id: Some(run_id), ..EventFilter::default() };
    let page = block_on(store.events_after(0, filter, 1000)).unwrap();
    page.events.iter().map(|event| event.kind).collect()
}

#[test]
fn a_queued_run_is_accepted_started_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recovery) = open(dir.path());
    assert!(recovery.pending.is_empty() && recovery.interrupted.is_empty());
    let (a, b) = (tenant("a"), tenant("b"));
    let run = record(Mode::Live);
    store.submit(queued(&a, &run)).wait().unwrap();
    let stored = block_on(store.get("a", run.run_id)).unwrap().unwrap();
    assert_eq!(stored.status, Status::Accepted);
    assert_eq!(stored.json, row(&a, &run).json());
    assert!(block_on(store.get("b", run.run_id)).unwrap().is_none(), "another tenant's run is none");
    assert!(block_on(store.get("nobody", run.run_id)).unwrap().is_none());
    let _ = b;

    store.submit(Change::Started { tenant: a.clone(), run_id: run.run_id, at: 77 }).wait().unwrap();
    let stored = block_on(store.get("a", run.run_id)).unwrap().unwrap().record().unwrap();
    assert_eq!((stored.status, stored.started_at), (Status::Running, Some(Timestamp(77))));
    let again = store.submit(Change::Started { tenant: a.clone(), run_id: run.run_id, at: 78 }).wait();
    assert_eq!(again, Err(WriteError::AlreadyStarted(run.run_id)));

    let emit = Emit { at: 80, data: Bytes::from_static(b"{\"event\":\"x\"}") };
    store.submit(Change::Emit { tenant: a.clone(), run_id: run.run_id, emit: emit.clone() }).wait().unwrap();
    let end = finished(run.clone());
    store.submit(Change::Ended(Box::new(row(&a, &end)))).wait().unwrap();
    let stored = block_on(store.get("a", run.run_id)).unwrap().unwrap();
    assert_eq!(stored.json, row(&a, &end).json());
    let twice = store.submit(Change::Ended(Box::new(row(&a, &end)))).wait();
    assert_eq!(twice, Err(WriteError::AlreadyEnded(run.run_id)));
    let late = store.submit(Change::Emit { tenant: a.clone(), run_id: run.run_id, emit }).wait();
    assert_eq!(late, Err(WriteError::AlreadyEnded(run.run_id)));
    assert_eq!(kinds(&store, run.run_id), [EventKind::Started, EventKind::GuestEmit, EventKind::Finished]);
}

#[test]
fn a_run_stored_when_it_has_ended_has_both_events() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = tenant("a");
    let run = finished(record(Mode::Canary));
    let done = store.submit(Accept::ended(row(&a, &run))).wait().unwrap();
    assert_eq!(done.newest, 2);
    let page = block_on(store.events_after(0, EventFilter::default(), 10)).unwrap();
    let [started, ended] = page.events.as_slice() else { unreachable!("two events: {page:?}") };
    assert_eq!((started.seq, started.kind, started.at), (1, EventKind::Started, run.created_at.0));
    assert_eq!((ended.seq, ended.kind, ended.at), (2, EventKind::Finished, run.created_at.0 + 2));
    assert_eq!((started.run_id, &*started.source, &*started.tenant), (run.run_id, "/void-wasm/test", "a"));
    let data: serde_json::Value = serde_json::from_slice(&ended.data).unwrap();
    assert_eq!(data["mode"], "canary");
    assert_eq!(data["usage"]["cpu_ms"], 1);
    assert_eq!(data["labels"]["repo"], "void");
    let data: serde_json::Value = serde_json::from_slice(&started.data).unwrap();
    assert!(data.get("usage").is_none() && data.get("status").is_none(), "a start knows no end: {data}");
    // Resuming between the two events of one row gives the second alone.
    let page = block_on(store.events_after(1, EventFilter::default(), 10)).unwrap();
    assert_eq!(page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [2]);
    assert_eq!((page.scanned_to, page.newest), (2, 2));
    let cloud: serde_json::Value = serde_json::from_slice(&ended.cloud_event().unwrap()).unwrap();
    assert_eq!(cloud["specversion"], "1.0");
    assert_eq!(cloud["type"], "wasm.exec.finished");
    assert_eq!(cloud["subject"], run.run_id.to_string());
    assert_eq!(cloud["id"], "2");
}

#[test]
fn emitted_events_lie_between_start_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let run = finished(record(Mode::Live));
    let mut accept = Accept::ended(row(&tenant("a"), &run));
    accept.emits = (0..3).map(|n| Emit { at: n, data: Bytes::from(format!("{n}")) }).collect();
    store.submit(accept).wait().unwrap();
    use EventKind::{Finished, GuestEmit, Started};
    assert_eq!(kinds(&store, run.run_id), [Started, GuestEmit, GuestEmit, GuestEmit, Finished]);
}

#[test]
fn what_does_not_execute_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = tenant("a");
    let frozen = record(Mode::Frozen);
    store.submit(Accept::ended(row(&a, &frozen))).wait().unwrap();
    assert!(kinds(&store, frozen.run_id).is_empty());
    let dry = record(Mode::DryRun);
    store.submit(queued(&a, &dry)).wait().unwrap();
    assert!(kinds(&store, dry.run_id).is_empty());
    store.submit(Change::Ended(Box::new(row(&a, &finished(dry.clone()))))).wait().unwrap();
    assert_eq!(kinds(&store, dry.run_id), [EventKind::Finished]);
    let cancelled = record(Mode::Live);
    store.submit(queued(&a, &cancelled)).wait().unwrap();
    let mut end = cancelled.clone();
    end.status = Status::Cancelled;
    store.submit(Change::Ended(Box::new(row(&a, &end)))).wait().unwrap();
    assert_eq!(kinds(&store, cancelled.run_id), [EventKind::Started, EventKind::Error]);
    let ended = store.submit(Change::Ended(Box::new(row(&a, &frozen)))).wait();
    assert_eq!(ended, Err(WriteError::AlreadyEnded(frozen.run_id)));
}

#[test]
fn a_restart_hands_out_what_waited_and_ends_what_ran() {
    let dir = tempfile::tempdir().unwrap();
    let a = tenant("a");
    let (waits, ran, direct, done) =
        (record(Mode::Live), record(Mode::Live), running(record(Mode::Canary)), finished(record(Mode::Live)));
    {
        let (store, _) = open(dir.path());
        store.submit(queued(&a, &waits)).wait().unwrap();
        store.submit(queued(&a, &ran)).wait().unwrap();
        store.submit(queued(&a, &direct)).wait().unwrap();
        store.submit(Accept::ended(row(&a, &done))).wait().unwrap();
        store.submit(Change::Started { tenant: a.clone(), run_id: ran.run_id, at: 99 }).wait().unwrap();
    }
    let (store, recovery) = open(dir.path());
    let [pending] = recovery.pending.as_slice() else { unreachable!("{recovery:?}") };
    assert_eq!(pending.record.run_id, waits.run_id);
    assert_eq!(
        (&*pending.tenant, &*pending.request, &*pending.policy),
        ("a", &b"request"[..], &b"policy"[..])
    );
    assert_eq!(recovery.interrupted, [ran.run_id, direct.run_id]);
    let found = block_on(store.get("a", ran.run_id)).unwrap().unwrap().record().unwrap();
    assert_eq!((found.status, found.reason), (Status::Error, Some(Reason::Interrupted)));
    assert_eq!(found.started_at, Some(Timestamp(99)));
    assert!(found.finished_at.is_some());
    for run in [ran.run_id, direct.run_id] {
        assert_eq!(kinds(&store, run), [EventKind::Started, EventKind::Error]);
    }
    // What was handed out and not started is handed out again.
    drop(store);
    let (_, recovery) = open(dir.path());
    assert_eq!((recovery.pending.len(), recovery.interrupted.len()), (1, 0));
}

#[test]
fn a_run_held_back_waits_again_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = tenant("a");
    let run = record(Mode::Live);
    store.submit(Accept::begun(row(&a, &running(run.clone())))).wait().unwrap();
    let back = || Change::HeldBack(Box::new(queued(&a, &run)));
    store.submit(back()).wait().unwrap();
    let stored = block_on(store.get("a", run.run_id)).unwrap().unwrap();
    assert_eq!((stored.status, &stored.json), (Status::Accepted, &row(&a, &run).json()));
    let twice = store.submit(back()).wait();
    assert!(matches!(twice, Err(WriteError::Refused(_))), "it does not run: {twice:?}");
    drop(store);
    let (store, recovery) = open(dir.path());
    assert!(recovery.interrupted.is_empty());
    let [pending] = recovery.pending.as_slice() else { unreachable!("it waits: {recovery:?}") };
    assert_eq!((pending.record.run_id, &pending.request[..]), (run.run_id, &b"request"[..]));
    store.submit(Change::Started { tenant: a.clone(), run_id: run.run_id, at: 9 }).wait().unwrap();
    store.submit(Change::Ended(Box::new(row(&a, &finished(run.clone()))))).wait().unwrap();
    assert_eq!(store.submit(back()).wait(), Err(WriteError::AlreadyEnded(run.run_id)));
    assert_eq!(kinds(&store, run.run_id), [EventKind::Started, EventKind::Finished]);
}

#[test]
fn a_batch_holds_or_fails_as_one_and_harms_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = tenant("a");
    let run = record(Mode::Live);
    let twin = finished(run.clone());
    let commits: Vec<_> = (0..20)
        .map(|n| {
            if n == 10 {
                let batch = Batch::new()
                    .with(Change::Accept(Box::new(queued(&a, &run))))
                    .with(Change::Started { tenant: a.clone(), run_id: new_id(), at: 0 });
                return store.submit(batch);
            }
            store.submit(queued(&a, &record(Mode::Live)))
        })
        .collect();
    for (n, commit) in commits.into_iter().enumerate() {
        assert_eq!(commit.wait().is_ok(), n != 10);
    }
    assert!(block_on(store.get("a", run.run_id)).unwrap().is_none(), "half of a batch was applied");
    let batch = Batch::new().with(Change::Accept(Box::new(queued(&a, &run)))).with(Change::Started {
        tenant: a.clone(),
        run_id: run.run_id,
        at: 1,
    });
    store.submit(batch).wait().unwrap();
    // A second run with the same id fails alone, whoever else is in its group.
    let commits: Vec<_> = (0..20)
        .map(|n| {
            if n == 5 {
                store.submit(Accept::ended(row(&a, &twin)))
            } else {
                store.submit(queued(&a, &record(Mode::Live)))
            }
        })
        .collect();
    for (n, commit) in commits.into_iter().enumerate() {
        let expected = if n == 5 { Some(WriteError::DuplicateRun(run.run_id)) } else { None };
        assert_eq!(commit.wait().err(), expected);
    }
    let page = block_on(store.events_after(0, EventFilter::default(), 1000)).unwrap();
    let seqs: Vec<_> = page.events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=39).collect::<Vec<_>>(), "failed batches leave no gap and no event");
}

#[test]
fn an_unknown_run_cannot_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let ghost = finished(record(Mode::Live));
    let end = store.submit(Change::Ended(Box::new(row(&tenant("a"), &ghost)))).wait();
    assert_eq!(end, Err(WriteError::UnknownRun(ghost.run_id)));
    store.close();
    assert_eq!(store.submit(queued(&tenant("a"), &record(Mode::Live))).wait(), Err(WriteError::Closed));
}
