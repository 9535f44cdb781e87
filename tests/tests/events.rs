//! What happened, as a stream: in order, without a gap or a repetition over breaks, and nobody waits for a slow reader.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use void_tests::{EnvFile, Event, Events, Load, Server, eventually};

const SOON: Duration = Duration::from_secs(10);

/// Checks that numbers rise, and that each run has one start and then one end.
fn check(events: &[Event], runs: usize) {
    let mut of_runs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pair in events.windows(2) {
        assert!(pair[0].id < pair[1].id, "{} then {}", pair[0].id, pair[1].id);
    }
    for event in events {
        of_runs.entry(event.run_id()).or_default().push(event.kind());
    }
    assert_eq!(of_runs.len(), runs);
    for (id, kinds) in of_runs {
        assert!(
            matches!(kinds[..], ["wasm.exec.started", "wasm.exec.finished" | "wasm.exec.error"]),
            "{id}: {kinds:?}"
        );
    }
}

#[test]
fn an_event_is_a_cloud_event() {
    let server = Server::start();
    let cid = server.upload_guest("loop");
    let mut all = Events::follow(&server, "", None);
    let labels = json!({"who": "zebra"});
    let run = server.exec(json!({"target": {"cid": cid}, "entry": "answer", "labels": labels})).wait();
    let failed = server.run(&cid, "nothing", json!([]));
    let events: Vec<_> = (0..4).map(|_| all.next(SOON).expect("an event")).collect();
    check(&events, 2);
    for event in &events {
        let data = &event.data;
        assert_eq!(data["specversion"], "1.0");
        assert!(data["source"].as_str().is_some_and(|source| source.starts_with("/void-wasm/")), "{data}");
        assert_eq!(data["data"]["target"], json!({"cid": cid}));
        assert_eq!(data["data"]["mode"], "live");
    }
    assert_eq!(events[1].run_id(), run.id());
    assert_eq!(events[1].data["data"]["labels"], labels);
    assert_eq!(events[1].data["data"]["usage"], run.record()["usage"]);
    assert!(events[0].data["data"]["usage"].is_null(), "a start knows no end");
    assert_eq!(
        (events[3].run_id(), &events[3].data["data"]["reason"]),
        (failed.id(), &json!("entry_not_found"))
    );
    // Filters.
    let mut one = Events::follow(&server, &format!("?run_id={}", run.id()), None);
    let of_one: Vec<_> =
        std::iter::from_fn(|| one.next(Duration::from_millis(300))).map(|event| event.id).collect();
    assert_eq!(of_one, [events[0].id, events[1].id]);
    let mut errors = Events::follow(&server, "?type=wasm.exec.error", Some(0));
    let errors: Vec<_> = std::iter::from_fn(|| errors.next(Duration::from_millis(300))).collect();
    assert!(errors.len() == 1 && errors[0].run_id() == failed.id());
}

#[test]
fn nothing_is_missing_or_told_twice_over_breaks_and_restarts() {
    let mut server = Server::start();
    let cid = server.upload_guest("loop");
    let mut events = Vec::new();
    let mut told = 0;
    for round in 0..4 {
        let of_load = cid.clone();
        let load =
            Load::start(&server, 4, move |_, _| json!({"target": {"cid": of_load}, "entry": "answer"}));
        // Three readers, one after the other, each going on where the last one stopped in the middle.
        for _ in 0..3 {
            let last = events.last().map_or(0, |event: &Event| event.id);
            let mut stream = Events::follow(&server, "", Some(last));
            for _ in 0..101 {
                events.push(stream.next(SOON).expect("there is load"));
            }
        }
        if round < 3 {
            server.kill_and_expect_nothing_left(SOON);
        }
        told += load.finish().get("finished").copied().unwrap_or(0);
        if round < 3 {
            server = server.restart();
        }
    }
    let mut stream = Events::follow(&server, "", events.last().map(|event| event.id));
    events.extend(std::iter::from_fn(|| stream.next(Duration::from_secs(1))));
    let metrics = server.get("/v1/runs?limit=500").json();
    assert!(metrics["runs"].as_array().is_some_and(|runs| !runs.is_empty()));
    let ends = events.iter().filter(|event| event.kind() != "wasm.exec.started").count();
    assert!(ends >= told, "{told} runs ended for their clients, and {ends} in the events");
    check(&events, ends);
    // The same once more in one go.
    let mut again = Events::follow(&server, "", Some(0));
    let again: Vec<_> =
        std::iter::from_fn(|| again.next(Duration::from_secs(1))).map(|event| event.id).collect();
    assert!(again.iter().eq(events.iter().map(|event| &event.id)), "{} and {}", again.len(), events.len());
    eprintln!("{} events of {ends} runs over 3 restarts and 13 readers", events.len());
}

#[test]
fn a_stream_that_breaks_before_its_first_event_goes_on_where_it_began() {
    let server = Server::start();
    let cid = server.upload_guest("loop");
    server.run(&cid, "answer", json!([]));
    let mut broken = Events::follow(&server, "", None);
    let last = broken.begins_after();
    drop(broken);
    let missed = server.run(&cid, "answer", json!([])).id().to_owned();
    let mut resumed = Events::follow(&server, "", Some(last));
    let ids = [(); 2].map(|()| resumed.next(SOON).expect("an event").run_id().to_owned());
    assert_eq!(ids, [missed.clone(), missed]);
    // An id that this state has not come to yet, as after its loss: what comes now is told.
    let mut ahead = Events::follow(&server, "", Some(1_000_000));
    let after = ahead.begins_after();
    let new = server.run(&cid, "answer", json!([])).id().to_owned();
    let event = ahead.next(SOON).expect("an event");
    assert_eq!((event.run_id(), event.id), (new.as_str(), after + 1));
}

/// Kinds of the events of a run, in their order.
fn kinds_of(server: &Server, id: &str) -> Vec<String> {
    let mut events = Events::follow(server, &format!("?run_id={id}"), None);
    let kinds = std::iter::from_fn(|| events.next(Duration::from_millis(300)));
    kinds.map(|event| event.kind().trim_start_matches("wasm.exec.").to_owned()).collect()
}

#[test]
fn a_run_that_was_accepted_for_execution_starts_once_however_it_ends() {
    let server = Server::builder().env("WASM_WORKERS", "1").env("WASM_CPU_MS_BUDGET", "20000").start();
    let cid = server.upload_guest("loop");
    let traps = server.upload_guest("traps");
    let exec = |request| server.exec(request);
    let keyed = |request: serde_json::Value, key: &str| {
        let mut request = request;
        request["idempotency_key"] = json!(key);
        request
    };
    let answer = json!({"target": {"cid": cid}, "entry": "answer"});
    let missing = json!({"target": {"sha256": "ab".repeat(32)}, "entry": "answer"});
    let no_entry = json!({"target": {"cid": cid}, "entry": "nothing"});
    let trap = json!({"target": {"cid": traps}, "entry": "unreachable"});
    let finished = ["started", "finished"];
    let failed = ["started", "error"];
    for (name, request, kinds) in [
        ("finished", answer.clone(), finished),
        ("no module", missing, failed),
        ("no entry", no_entry, failed),
        ("trap", trap, failed),
    ] {
        let runs = [
            exec(request.clone()).wait().id().to_owned(),
            exec(keyed(request.clone(), name)).wait().id().to_owned(),
            exec(request.clone()).start(),
            exec(keyed(request, &format!("{name} again"))).start(),
        ];
        for id in &runs {
            server.wait_for(id);
            assert_eq!(kinds_of(&server, id), kinds, "{name}");
        }
    }
    // Cancelled before and after its guest began.
    let running = exec(json!({"target": {"cid": cid}, "entry": "forever"})).start();
    eventually("it runs", SOON, || server.look_up(&running).status() == "running");
    let waiting = exec(answer).start();
    for id in [&waiting, &running] {
        assert_eq!(server.request("POST", &format!("/v1/runs/{id}/cancel"), &[], &[]).status, 200);
        assert_eq!(kinds_of(&server, id), failed);
    }
}

#[test]
fn dry_runs_and_frozen_ones_never_start() {
    let env = EnvFile::new(&["WASM_EXEC_CANARY=0"]);
    let server = Server::builder().env("WASM_ENV_FILE", env.path()).start();
    let cid = server.upload_guest("loop");
    server.run(&cid, "answer", json!([]));
    env.write(&["WASM_EXEC_FREEZE=1"]);
    assert!(server.reload());
    assert_eq!(server.exec(json!({"target": {"cid": cid}, "entry": "answer"})).send().status, 202);
    let mut all = Events::follow(&server, "", Some(0));
    let kinds: Vec<_> = std::iter::from_fn(|| all.next(Duration::from_millis(500)))
        .map(|event| (event.kind().to_owned(), event.data["data"]["mode"].to_string()))
        .collect();
    assert_eq!(kinds, [("wasm.exec.finished".to_owned(), "\"dry-run\"".to_owned())]);
}

#[test]
fn a_reader_that_does_not_read_is_cut_off_and_nobody_waits_for_it() {
    let server = Server::start();
    let cid = server.upload_guest("loop");
    // It asks for everything and never reads: its buffers fill, and from then on nothing moves.
    let mut slow = TcpStream::connect(server.address()).expect("a connection");
    slow.write_all(b"GET /v1/events HTTP/1.1\r\nHost: test\r\nLast-Event-ID: 0\r\n\r\n").expect("sent");
    let label = "x".repeat(250);
    let labels: serde_json::Map<_, _> = (0..60).map(|n| (format!("label{n}"), json!(label))).collect();
    let of_load = cid.clone();
    let load = Load::start(
        &server,
        4,
        move |_, _| json!({"target": {"cid": of_load}, "entry": "answer", "labels": labels}),
    );
    let streams = || server.metrics().sum("void_wasm_http_event_streams", &[]);
    eventually("it is counted", SOON, || streams() == 1.0);
    // Two events of 16 KiB each run: this is more than the kernel keeps for a connection.
    eventually("more than the buffers hold", Duration::from_secs(20), || load.done() > 600);
    let begin = Instant::now();
    let memory = server.process().kib("VmRSS");
    // While it hangs, others run, and one that reads has all events in time.
    let mut quick = Events::follow(&server, "", None);
    let mine = server.run(&cid, "answer", json!([]));
    let mine = mine.id().to_owned();
    eventually("others have their events", SOON, || {
        quick.next(SOON).is_some_and(|event| event.run_id() == mine)
    });
    drop(quick);
    eventually("it is cut off", Duration::from_secs(40), || streams() == 0.0);
    load.finish();
    eprintln!("cut off {:?} after its buffers were full", begin.elapsed());
    let grown = server.process().kib("VmRSS").saturating_sub(memory);
    assert!(grown < 200 << 10, "the supervisor grew by {grown} KiB");
    // What it would read now ends.
    slow.set_read_timeout(Some(SOON)).expect("a timeout");
    let mut rest = Vec::new();
    let end = slow.read_to_end(&mut rest);
    assert!(end.is_ok() || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
}
