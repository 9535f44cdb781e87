//! What `kill -9` of the supervisor costs, by the witness of the guests: none runs twice.
//!
//! Each run is given a number of its own, and its guest leaves three traces of it, in this order: it counts the number up
//! in KV, fetches it from a host that lives in this test, and emits it. The host is outside the service altogether: what it
//! saw is neither stored by the service nor lost with it. What is claimed of each trace is what holds however the kill
//! falls. A fetch that was seen is preceded by an answered `kv_set`, and an answered `kv_set` survives; an event may be lost
//! with the run that it belongs to, and is not stored without it. So an executed run has each trace once, one that was
//! interrupted has the first few of them at most once, and one that was refused has none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use void_tests::{Client, Events, Response, Server, Witness, eventually};

const ROUNDS: usize = 20;
const ACCEPTED: usize = 10_000;
/// Numbers that one run reads back.
const AT_ONCE: usize = 1_000;

/// `go(number, turns)` leaves the three traces and returns how often the number is counted now. `kept(from, n)` emits a
/// byte for each of n numbers: how often it was counted.
const GUEST: &str = r#"
  (func $counted (param $number i64) (result i32) (local $code i32)
    (call $digits (local.get $number))
    (local.set $code
      (call $kv_get (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 10) (i32.const 1024) (i32.const 1)))
    (if (result i32) (i32.eq (local.get $code) (i32.const 1))
      (then (i32.load8_u (i32.const 1024)))
      (else
        (if (i32.ne (local.get $code) (i32.const -5)) (then unreachable))
        (i32.const 0))))
  (func (export "go") (param $number i64) (param $turns i64) (result i32) (local $count i32)
    (local.set $count (i32.add (call $counted (local.get $number)) (i32.const 1)))
    (i32.store8 (i32.const 1024) (local.get $count))
    (if (call $kv_set (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 10) (i32.const 1024) (i32.const 1))
      (then unreachable))
    (call $mark (local.get $number))
    (if (call $emit (i32.const 512) (i32.const 1) (i32.const 512) (i32.const 10)) (then unreachable))
    (call $spin (local.get $turns))
    (local.get $count))
  (func (export "kept") (param $from i64) (param $n i32) (local $i i32)
    (loop $next
      (i32.store8 (i32.add (i32.const 65536) (local.get $i))
        (call $counted (i64.add (local.get $from) (i64.extend_i32_u (local.get $i)))))
      (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    (if (call $emit (i32.const 512) (i32.const 1) (i32.const 65536) (local.get $n)) (then unreachable)))"#;

/// What a client heard of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    Accepted(String),
    Refused,
    Nothing,
}

fn accepted(heard: &Heard) -> bool {
    matches!(heard, Heard::Accepted(_))
}

/// Everything that clients have asked for.
struct Load<'a> {
    cid: &'a str,
    next: AtomicU64,
    accepted: AtomicUsize,
    stop: AtomicBool,
}

impl Load<'_> {
    /// One in four has a key, and so may be sent again.
    fn has_key(number: u64) -> bool {
        number % 4 == 3
    }

    fn request(&self, number: u64) -> Value {
        // A few take so long that a kill finds them with all their traces left.
        let turns = if number.is_multiple_of(10) { 10_000_000 } else { 0 };
        let mut request = json!({"target": {"cid": self.cid}, "entry": "go", "args": [number, turns],
            "labels": {"number": number.to_string()}});
        if Self::has_key(number) {
            request["idempotency_key"] = json!(format!("key-{number}"));
        }
        request
    }

    fn heard(answer: &Response) -> Heard {
        match answer.status {
            200 | 202 => Heard::Accepted(answer.json()["run_id"].as_str().expect("an id").to_owned()),
            429 => Heard::Refused,
            _ => panic!("status {}: {}", answer.status, answer.text()),
        }
    }

    /// Asks for runs, each with a new number, until the server is gone.
    fn ask(&self, server: &Server) -> Vec<(u64, Heard)> {
        let mut notes = Vec::new();
        let Ok(mut connection) = Client::connect(server.address()) else { return notes };
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let prefer = if number.is_multiple_of(2) { "wait=20" } else { "respond-async" };
            let headers = [("Content-Type", "application/json"), ("Prefer", prefer)];
            let body = self.request(number).to_string();
            let Ok(answer) = connection.request("POST", "/v1/exec", &headers, body.as_bytes()) else {
                notes.push((number, Heard::Nothing));
                break;
            };
            let heard = Self::heard(&answer);
            match heard {
                Heard::Refused => thread::sleep(Duration::from_millis(20)),
                _ => drop(self.accepted.fetch_add(1, Ordering::Relaxed)),
            }
            notes.push((number, heard));
        }
        notes
    }

    /// Load from eight connections, and a kill at some moment of it.
    fn until_killed(&self, server: &Server, random: u64) -> Vec<(u64, Heard)> {
        self.accepted.store(0, Ordering::Relaxed);
        self.stop.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            let clients: Vec<_> = (0..8).map(|_| scope.spawn(move || self.ask(server))).collect();
            // The moment of the kill is random, but on a busy machine it waits for this round's share of the runs.
            let until = Instant::now() + Duration::from_millis(100 + random % 500);
            let give_up = until + Duration::from_secs(60);
            let share = ACCEPTED / ROUNDS + ACCEPTED / ROUNDS / 10;
            while Instant::now() < until
                || (self.accepted.load(Ordering::Relaxed) < share && Instant::now() < give_up)
            {
                thread::sleep(Duration::from_millis(3));
            }
            server.kill_and_expect_nothing_left(Duration::from_secs(10));
            self.stop.store(true, Ordering::Relaxed);
            clients.into_iter().flat_map(|client| client.join().expect("a client does not panic")).collect()
        })
    }
}

/// How often each number below `end` was counted in KV.
fn kept(server: &Server, cid: &str, end: u64) -> Vec<usize> {
    let mut counts = Vec::new();
    while counts.len() < usize::try_from(end).expect("not so many") {
        let run = server.run(cid, "kept", json!([counts.len(), AT_ONCE]));
        run.result();
        counts.extend(server.emitted(run.id())[0].1.iter().map(|count| usize::from(*count)));
    }
    counts
}

/// How often each number was emitted by a run that is recorded under it, up to what the run `last` emitted.
fn emitted(server: &Server, runs: &BTreeMap<u64, Value>, last: (u64, &str)) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    let mut events = Events::follow(server, "?type=wasm.guest.emit", Some(0));
    loop {
        let event = events.next(Duration::from_secs(20)).expect("the last event");
        let data = &event.data["data"]["data"];
        // What `kept` emits is no number.
        let Some(number) = data.as_str().filter(|text| text.len() == 10).and_then(|text| text.parse().ok())
        else {
            continue;
        };
        *counts.entry(number).or_insert(0) += 1;
        if (number, event.run_id()) == last {
            return counts;
        }
        let of = runs.get(&number).map(|run| &run["run_id"]);
        assert_eq!(of, Some(&json!(event.run_id())), "{number} was emitted by another run: {}", event.data);
    }
}

#[test]
fn twenty_kills_under_load_and_no_guest_has_run_twice() {
    let witness = Witness::start();
    let mut server = Server::builder()
        .env("WASM_CAPS", "emit,kv,http")
        .env("WASM_HTTP_ALLOWLIST", &witness.place())
        .env("WASM_HTTP_RPS", "1000000")
        .env("WASM_HTTP_BURST", "1000000")
        .env("WASM_KV_MAX_KEYS", "1000000")
        .env("WASM_SYSCALL_MAX", "10000")
        .env("WASM_SYSCALL_RPS", "1000000")
        .env("WASM_CPU_MS_BUDGET", "5000")
        // Few, so that some always wait.
        .env("WASM_WORKERS", "3")
        .start();
    let cid = server.upload(&witness.guest(GUEST));
    let load = Load { cid: &cid, next: 0.into(), accepted: 0.into(), stop: false.into() };
    let mut asked: BTreeMap<u64, Heard> = BTreeMap::new();
    let mut random = u64::from(std::process::id()) | 1;
    // Runs that had been accepted before a kill and ran after it.
    let mut taken_up = 0;
    for _ in 0..ROUNDS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut notes = load.until_killed(&server, random >> 33);
        let before = witness.count();
        let told: BTreeSet<u64> =
            notes.iter().filter(|(_, heard)| accepted(heard)).map(|note| note.0).collect();
        server = server.restart();
        // As a client would: what has a key and was not answered is sent again, and some that were answered besides.
        notes.sort_by_key(|(number, heard)| (*heard != Heard::Nothing, std::cmp::Reverse(*number)));
        let unheard = notes.iter().filter(|(_, heard)| *heard == Heard::Nothing).count();
        let again = notes.iter_mut().take(unheard + 60).filter(|(number, _)| Load::has_key(*number));
        for (number, heard) in again {
            let answer = Load::heard(&server.exec(load.request(*number)).send());
            match heard {
                Heard::Accepted(_) => assert_eq!(*heard, answer, "two runs of one key"),
                Heard::Nothing | Heard::Refused => *heard = answer,
            }
        }
        eventually("what waited has ended", Duration::from_secs(60), || {
            let open = |status| server.get(&format!("/v1/runs?limit=1&status={status}")).json();
            ["accepted", "running"].iter().all(|status| open(status)["runs"].as_array().unwrap().is_empty())
        });
        taken_up += witness.marks()[before..].iter().filter(|number| told.contains(number)).count();
        asked.extend(notes);
    }
    let accepted = asked.values().filter(|heard| accepted(heard)).count();
    assert!(accepted >= ACCEPTED, "only {accepted} runs were accepted in {ROUNDS} rounds");
    assert!(taken_up >= ROUNDS, "only {taken_up} runs waited over a kill, so little is shown");

    let mut runs: BTreeMap<u64, Value> = BTreeMap::new();
    for run in server.list(usize::MAX) {
        let number = run["labels"]["number"].as_str().expect("a number").parse().expect("a number");
        let twin = runs.insert(number, run);
        assert!(twin.is_none(), "two runs of one request: {twin:?} {}", runs[&number]);
    }
    let end = load.next.into_inner();
    let (counted, marked) = (kept(&server, &cid, end), witness.counts());
    // The control: once more, as if one had been executed twice. All three see it.
    let (again, _) = runs.iter().find(|(_, run)| run["status"] == "finished").expect("one that was executed");
    let control = server.run(&cid, "go", json!([again, 0]));
    assert_eq!(control.result(), &json!(2));
    assert_eq!(witness.counts()[again], 2);
    let mut emitted = emitted(&server, &runs, (*again, control.id()));
    assert_eq!(emitted.get(again).copied(), Some(2));
    emitted.insert(*again, 1);

    let strangers: Vec<_> = marked.keys().filter(|number| !asked.contains_key(number)).collect();
    assert!(strangers.is_empty(), "nobody asked for {strangers:?}");
    let (mut finished, mut interrupted, mut marked_and_interrupted, mut unheard) = (0, 0, 0, 0);
    for (number, heard) in &asked {
        let times = |counts: &BTreeMap<u64, usize>| counts.get(number).copied().unwrap_or(0);
        let traces = [counted[*number as usize], times(&marked), times(&emitted)];
        let run = runs.get(number);
        let what = format!("{number} {heard:?} {traces:?} {run:?}");
        assert!(traces.is_sorted_by(|earlier, later| earlier >= later) && traces[0] <= 1, "{what}");
        match (heard, run) {
            (Heard::Accepted(id), Some(run)) => assert_eq!(run["run_id"], *id, "{what}"),
            (Heard::Accepted(_), None) => panic!("lost: {what}"),
            (Heard::Refused, run) => assert!(run.is_none() && traces == [0; 3], "{what}"),
            (Heard::Nothing, _) => unheard += 1,
        }
        let Some(run) = run else { continue };
        if run["status"] == "finished" {
            finished += 1;
            assert_eq!((traces, &run["result"]), ([1; 3], &json!(1)), "{what}");
        } else {
            interrupted += 1;
            marked_and_interrupted += traces[1];
            assert_eq!(run["reason"], "interrupted", "{what}");
        }
    }
    assert!(marked_and_interrupted > 0, "no kill came between a mark and its run's end, so little is shown");
    eprintln!(
        "{accepted} accepted: {finished} finished, {interrupted} interrupted ({marked_and_interrupted} marked), \
         {taken_up} taken up after a kill; {unheard} requests without an answer"
    );
}
