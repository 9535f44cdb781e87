//! What `kill -9` of the supervisor costs: nothing that was accepted, and no run is executed twice.
//!
//! The witnesses. (1) The clients' own notes of what was answered with 202 or 200, against the list after the last
//! restart. (2) The stream of events: one start and one end for each run, over all restarts. (3) What a client saw of a
//! run before a kill, against the end: a run that was seen to have begun keeps its beginning, or ends as `interrupted`,
//! and one that was seen to have ended keeps its record to the last byte. These would not show a guest that runs once
//! more without a trace in any record; for that the guests themselves have to bear witness outside the runs' records.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use void_tests::{Client, Events, Server, eventually};

const ROUNDS: usize = 20;
const ACCEPTED: usize = 10_000;

/// One client's notes: the ids it was told, and those told for a key.
#[derive(Default)]
struct Notes {
    told: BTreeSet<String>,
    keys: BTreeMap<String, String>,
}

/// Asks for runs of all kinds until the server is gone.
fn ask(
    server: &Server,
    cid: &str,
    client: usize,
    round: usize,
    stop: &AtomicBool,
    told: &AtomicUsize,
) -> Notes {
    let mut notes = Notes::default();
    let Ok(mut connection) = Client::connect(server.address()) else { return notes };
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let turns = if turn % 50 == 0 { 20_000_000 } else { 100 };
        let mut request = json!({"target": {"cid": cid}, "entry": "spin", "args": [turns]});
        let key = (turn % 4 == 3).then(|| format!("{client}-{}-{round}", turn / 8));
        if let Some(key) = &key {
            request["idempotency_key"] = json!(key);
            request["args"] = json!([100]);
        }
        let prefer = if turn % 2 == 0 { "wait=20" } else { "respond-async" };
        let headers = [("Content-Type", "application/json"), ("Prefer", prefer)];
        let body = request.to_string();
        let Ok(answer) = connection.request("POST", "/v1/exec", &headers, body.as_bytes()) else { break };
        match answer.status {
            200 | 202 => {
                let id = answer.json()["run_id"].as_str().expect("an id").to_owned();
                if let Some(key) = key {
                    let first = notes.keys.entry(key).or_insert_with(|| id.clone());
                    assert_eq!(*first, id, "two runs of one key");
                }
                told.fetch_add(usize::from(notes.told.insert(id)), Ordering::Relaxed);
            }
            // So many wait that more would only make the test longer.
            429 => thread::sleep(Duration::from_millis(20)),
            _ => panic!("status {}: {}", answer.status, answer.text()),
        }
    }
    notes
}

fn ended(run: &Value) -> bool {
    matches!(run["status"].as_str(), Some("finished" | "error" | "cancelled"))
}

#[test]
fn twenty_kills_under_load_lose_nothing_and_repeat_nothing() {
    let mut server = Server::start();
    let cid = server.upload_guest("loop");
    let mut told = BTreeSet::new();
    let mut keys = BTreeMap::new();
    let mut seen: BTreeMap<String, Value> = BTreeMap::new();
    let mut random = std::process::id() as usize | 1;
    for round in 0..ROUNDS {
        let (stop, so_far) = (AtomicBool::new(false), AtomicUsize::new(0));
        let notes: Vec<Notes> = thread::scope(|scope| {
            let (server, cid, stop, so_far) = (&server, &cid, &stop, &so_far);
            let clients: Vec<_> = (0..8)
                .map(|client| scope.spawn(move || ask(server, cid, client, round, stop, so_far)))
                .collect();
            // The moment of the kill is random, but on a busy machine it waits for this round's share of the runs.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let until = Instant::now() + Duration::from_millis(100 + (random >> 33) as u64 % 500);
            let give_up = until + Duration::from_secs(20);
            let share = ACCEPTED / ROUNDS + ACCEPTED / ROUNDS / 10;
            while Instant::now() < until
                || (so_far.load(Ordering::Relaxed) < share && Instant::now() < give_up)
            {
                thread::sleep(Duration::from_millis(3));
            }
            for run in server.list(500) {
                seen.insert(run["run_id"].as_str().expect("an id").to_owned(), run);
            }
            server.kill_and_expect_nothing_left(Duration::from_secs(10));
            stop.store(true, Ordering::Relaxed);
            clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
        });
        for Notes { told: more, keys: of_keys } in notes {
            told.extend(more);
            keys.extend(of_keys);
        }
        server = server.restart();
        // The same keys again, across the kill: the run that was told of, not another.
        for (key, id) in keys.iter().filter(|(key, _)| key.ends_with(&format!("-{round}"))).take(20) {
            let request =
                json!({"target": {"cid": cid}, "entry": "spin", "args": [100], "idempotency_key": key});
            let again = server.exec(request).send();
            assert_eq!((again.status, &again.json()["run_id"]), (200, &json!(id)), "{}", again.text());
        }
    }
    assert!(told.len() >= ACCEPTED, "only {} runs were accepted in {ROUNDS} rounds", told.len());

    eventually("all have ended", Duration::from_secs(60), || {
        let open = |status| server.get(&format!("/v1/runs?limit=1&status={status}")).json();
        ["accepted", "running"].iter().all(|status| open(status)["runs"].as_array().unwrap().is_empty())
    });
    let runs = server.list(usize::MAX);
    let by_id: BTreeMap<&str, &Value> =
        runs.iter().map(|run| (run["run_id"].as_str().expect("an id"), run)).collect();
    assert_eq!(by_id.len(), runs.len(), "a run is listed twice");
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for id in &told {
        let run = by_id.get(id.as_str()).unwrap_or_else(|| panic!("{id} was accepted and is lost"));
        assert!(ended(run), "{run}");
        let outcome = format!("{} {}", run["status"], run["reason"]);
        assert!(run["status"] == "finished" || run["reason"] == "interrupted", "{run}");
        *outcomes.entry(outcome).or_default() += 1;
    }
    let mut under_way = 0;
    for (id, before) in &seen {
        let after = by_id[id.as_str()];
        if ended(before) {
            assert_eq!(before, after, "an end was changed");
        } else if before["status"] == "running" {
            under_way += 1;
            assert_eq!(before["started_at"], after["started_at"], "begun twice: {before} {after}");
        }
    }

    let (mut starts, mut ends) = (BTreeMap::new(), BTreeMap::new());
    let mut events = Events::follow(&server, "", Some(0));
    let mut last = 0;
    while ends.len() < runs.len() {
        let event = events.next(Duration::from_secs(10)).expect("an event for each run");
        assert!(event.id > last, "event {} after {last}", event.id);
        last = event.id;
        let of = if event.kind() == "wasm.exec.started" { &mut starts } else { &mut ends };
        *of.entry(event.run_id().to_owned()).or_insert(0) += 1;
        assert!(starts.contains_key(event.run_id()), "an end before the start: {}", event.data);
    }
    assert!(events.next(Duration::from_millis(300)).is_none(), "more than one end");
    assert!(starts.len() == runs.len() && starts.values().chain(ends.values()).all(|count| *count == 1));
    eprintln!(
        "{} accepted, {} in all, {outcomes:?}; {} seen before a kill, {under_way} of them under way",
        told.len(),
        runs.len(),
        seen.len()
    );
}

#[test]
fn what_waits_is_executed_after_a_kill_under_the_policy_of_its_acceptance() {
    let tokens = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(tokens.path(), "anna anna-token-0123456789abcdef\n").expect("written");
    let env = void_tests::EnvFile::new(&["WASM_CPU_MS_BUDGET=3000"]);
    let server = Server::builder()
        .env("WASM_ENV_FILE", env.path())
        .env("WASM_API_TOKENS_FILE", tokens.path().to_str().expect("a plain path"))
        .env("WASM_WORKERS", "1")
        .start();
    let who = ("Authorization", "Bearer anna-token-0123456789abcdef");
    let module = server.request("PUT", "/v1/modules", &[who], &void_tests::guest("loop")).json();
    let cid = module["cid"].as_str().expect("a CID").to_owned();
    let start = |entry: &str, args: Value| {
        let request = json!({"target": {"cid": cid}, "entry": entry, "args": args, "labels": {"a": "b"}});
        server.exec(request).header(who.0, who.1).start()
    };
    let record = |server: &Server, id: &str, wait: u32| {
        server.request("GET", &format!("/v1/runs/{id}?wait={wait}"), &[who], &[]).json()
    };
    let first = start("forever", json!([]));
    eventually("it runs", Duration::from_secs(10), || record(&server, &first, 0)["status"] == "running");
    let (forever, spin) = (start("forever", json!([])), start("spin", json!([100])));
    // The new process has a smaller budget; what waits was accepted under the old one.
    env.write(&["WASM_CPU_MS_BUDGET=50"]);
    let server = server.restart();
    assert_eq!(record(&server, &first, 30)["reason"], "interrupted");
    let forever = record(&server, &forever, 30);
    assert_eq!(forever["reason"], "cpu_budget", "{forever}");
    assert!(forever["usage"]["cpu_ms"].as_u64().expect("a number") >= 2900, "{forever}");
    let spin = record(&server, &spin, 30);
    assert_eq!((&spin["status"], &spin["labels"]), (&json!("finished"), &json!({"a": "b"})), "{spin}");
}
