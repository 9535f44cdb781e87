//! Finding runs again: the list with its filters and cursors, and waiting without asking again and again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use void_tests::{Server, eventually};

fn pages(server: &Server, query: &str, limit: usize) -> Vec<Value> {
    let mut runs = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = server.get(&format!("/v1/runs?limit={limit}{query}{cursor}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        let found = page["runs"].as_array().expect("a list").clone();
        assert!(found.len() <= limit);
        runs.extend(found);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return runs,
        }
    }
}

fn ids(runs: &[Value]) -> Vec<&str> {
    runs.iter().map(|run| run["run_id"].as_str().expect("an id")).collect()
}

#[test]
fn filters_and_cursors_find_each_run_once_newest_first() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "20000").start();
    let cid = server.upload_guest("loop");
    let mut made = Vec::new();
    for number in 0..60 {
        let entry = if number % 5 == 0 { "nothing" } else { "answer" };
        let labels = json!({"third": (number % 3).to_string(), "half": (number % 2).to_string()});
        let run = server.exec(json!({"target": {"cid": cid}, "entry": entry, "labels": labels})).wait();
        made.push(run.id().to_owned());
    }
    made.reverse();
    for limit in [1, 7, 59, 60, 61, 500] {
        assert_eq!(ids(&pages(&server, "", limit)), made, "pages of {limit}");
    }
    let with = |query: &str| pages(&server, query, 7);
    assert_eq!(with("&status=error").len(), 12);
    assert_eq!(with("&status=finished&mode=live").len(), 48);
    assert_eq!(with("&label=third:1").len(), 20);
    let both = with("&label=third:1&label=half:0");
    assert_eq!(both.len(), 10);
    assert!(both.iter().all(|run| run["labels"] == json!({"third": "1", "half": "0"})));
    assert!(with("&mode=canary").is_empty() && with("&label=third:x").is_empty());
    // Each record is the one that a look-up gives.
    for run in with("&status=error") {
        let id = run["run_id"].as_str().expect("an id").to_owned();
        assert_eq!(server.look_up(&id).record(), &run);
    }
    // What runs is listed as what it is.
    let id = server.exec(json!({"target": {"cid": cid}, "entry": "forever"})).start();
    eventually("it runs", Duration::from_secs(10), || ids(&with("&status=running")) == [id.as_str()]);
    assert_eq!(with("&status=running")[0]["status"], "running");
    // A cursor stays where it is when newer runs come.
    let first = server.get("/v1/runs?limit=10").json();
    server.run(&cid, "answer", json!([]));
    let next =
        server.get(&format!("/v1/runs?limit=10&cursor={}", first["next_cursor"].as_str().unwrap())).json();
    let (first, next) = (first["runs"].as_array().unwrap().clone(), next["runs"].as_array().unwrap().clone());
    assert_eq!(ids(&first)[1..], made[..9]);
    assert_eq!(ids(&next), made[9..19]);
    for bad in ["limit=0", "limit=501", "status=done", "cursor=x", "label=x", "order=up"] {
        let answer = server.get(&format!("/v1/runs?{bad}"));
        assert_eq!((answer.status, answer.problem().as_str()), (400, "invalid_query"), "{bad}");
    }
    let server = server.restart();
    let after = pages(&server, "", 500);
    let known: BTreeSet<_> = ids(&after).into_iter().collect();
    assert!(made.iter().all(|id| known.contains(id.as_str())));
}

#[test]
fn many_wait_for_one_run_and_nobody_asks_again() {
    let server = Server::builder().env("WASM_WORKERS", "1").env("WASM_CPU_MS_BUDGET", "20000").start();
    let cid = server.upload_guest("loop");
    let start = |entry: &str| server.exec(json!({"target": {"cid": cid}, "entry": entry})).start();
    let running = start("forever");
    // Both would wait for the same module to be compiled, and which of them then comes first is not promised.
    eventually("the first has the only worker", Duration::from_secs(10), || {
        server.get(&format!("/v1/runs/{running}")).json()["status"] == "running"
    });
    let waited_for = start("answer");
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let mut client = server.connect();
                client
                    .send_request("GET", &format!("/v1/runs/{waited_for}?wait=60"), &[], &[])
                    .expect("sent");
                scope.spawn(move || client.read_response().expect("an answer"))
            })
            .collect();
        eventually("all wait", Duration::from_secs(10), || {
            server.metrics().sum("void_wasm_http_connections", &[]) >= 100.0
        });
        let before = server.process().cpu_ticks();
        let begin = Instant::now();
        thread::sleep(Duration::from_secs(2));
        let ticks = server.process().cpu_ticks() - before;
        // 100 that asked every 10 ms would take seconds; a look at one run's budget takes microseconds.
        assert!(ticks <= 10, "{ticks} ticks in {:?} while 100 wait", begin.elapsed());
        assert_eq!(server.request("POST", &format!("/v1/runs/{running}/cancel"), &[], &[]).status, 200);
        let ended = Instant::now();
        for thread in waiting {
            assert_eq!(thread.join().expect("no panic").json()["result"], 42);
        }
        assert!(ended.elapsed() < Duration::from_secs(5), "{:?}", ended.elapsed());
    });
    // A wait that is over before the run gives the record as it stands.
    let id = start("forever");
    let begin = Instant::now();
    let answer = server.get(&format!("/v1/runs/{id}?wait=1"));
    assert!(begin.elapsed() >= Duration::from_millis(990), "{:?}", begin.elapsed());
    assert!(matches!(answer.json()["status"].as_str(), Some("accepted" | "running")), "{}", answer.text());
}
