//! `kill -9`: every write that was acknowledged is there afterwards, and every run is in a state that can be told.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};

use support::{block_on, finished, new_id, open, queued, record, row, tenant};
use void_api::{Mode, Reason, RunId, Status};
use void_store::{Accept, Change, EventFilter, EventKind};

const DIR: &str = "VOID_STORE_TEST_KILL_DIR";

/// The child: writes from two threads and says what was acknowledged, one line each, until it is killed.
#[test]
fn child_that_writes() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (store, _) = open(Path::new(&dir));
    let store = Arc::new(store);
    let (say, said) = mpsc::channel::<String>();
    for direct in [true, false] {
        let (store, say) = (Arc::clone(&store), say.clone());
        std::thread::spawn(move || {
            let a = tenant("a");
            loop {
                let mut run = record(Mode::Live);
                // Two children must not make the same ids.
                let random = u128::from(std::process::id()) << 40 | new_id().as_u128() & 0xff_ffff_ffff;
                run.run_id = RunId::new(run.run_id.unix_ms(), random);
                let id = run.run_id;
                if direct {
                    store.submit(Accept::ended(row(&a, &finished(run)))).wait().unwrap();
                    say.send(format!("ended {id}")).unwrap();
                    continue;
                }
                store.submit(queued(&a, &run)).wait().unwrap();
                say.send(format!("accepted {id}")).unwrap();
                store.submit(Change::Started { tenant: a.clone(), run_id: id, at: 1 }).wait().unwrap();
                say.send(format!("started {id}")).unwrap();
                store.submit(Change::Ended(Box::new(row(&a, &finished(run))))).wait().unwrap();
                say.send(format!("ended {id}")).unwrap();
            }
        });
    }
    let mut out = std::io::stdout().lock();
    for line in said {
        writeln!(out, "\n{line}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = std::collections::HashMap::<RunId, Status>::new();
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        let wanted = 200 + 150 * round;
        while let Some(Ok(line)) = lines.next() {
            seen += usize::from(note(&line, &mut acknowledged));
            if seen == wanted {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= wanted, "the child ended by itself after {seen} writes");

        let (store, recovery) = open(dir.path());
        let reader = store.reader().unwrap();
        for (run_id, status) in &acknowledged {
            let run = reader.get("a", *run_id).unwrap();
            let run = run.unwrap_or_else(|| panic!("{run_id} was acknowledged as {status:?} and is lost"));
            let record = run.record().unwrap();
            let pending = recovery.pending.iter().any(|pending| pending.record.run_id == *run_id);
            match (status, run.status) {
                (_, Status::Finished) => {}
                (Status::Accepted, Status::Accepted) => assert!(pending),
                (Status::Accepted | Status::Running, Status::Error) => {
                    assert_eq!(record.reason, Some(Reason::Interrupted));
                }
                (then, now) => panic!("{run_id} was acknowledged as {then:?} and is {now:?}"),
            }
        }
        // The caller executes what was handed out; here it ends at once.
        for pending in recovery.pending {
            let end = Change::Ended(Box::new(row(&tenant("a"), &finished(pending.record))));
            store.submit(end).wait().unwrap();
        }
        check_events(&store);
    }
}

fn note(line: &str, acknowledged: &mut std::collections::HashMap<RunId, Status>) -> bool {
    let Some((word, id)) = line.split_once(' ') else { return false };
    let Ok(id) = id.parse() else { return false };
    let status = match word {
        "accepted" => Status::Accepted,
        "started" => Status::Running,
        "ended" => Status::Finished,
        _ => return false,
    };
    acknowledged.insert(id, status);
    true
}

/// Every run has one start and one end, in this order, and the numbers have no gap.
fn check_events(store: &void_store::Store) {
    let mut after = 0;
    let mut lives = std::collections::HashMap::<RunId, Vec<EventKind>>::new();
    loop {
        let page = block_on(store.events_after(after, EventFilter::default(), 1000)).unwrap();
        for event in &page.events {
            assert_eq!(event.seq, after + 1, "a gap in the events");
            after = event.seq;
            lives.entry(event.run_id).or_default().push(event.kind);
        }
        if page.scanned_to >= page.newest {
            break;
        }
    }
    for (run_id, life) in lives {
        let [EventKind::Started, EventKind::Finished | EventKind::Error] = life.as_slice() else {
            panic!("{run_id} has the events {life:?}")
        };
    }
}
