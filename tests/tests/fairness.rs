//! One tenant that floods must not starve another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use void_tests::{Client, Response, Server};

const FLOOD: &str = "Bearer flood-token-0123456789abcdef";
const ONE: &str = "Bearer one-token-0123456789abcdefgh";
const FLOODING: usize = 64;
/// What the shortest runs may take beside a flood, on a machine that does nothing else.
const FEW_TURNS: Duration = Duration::from_millis(20);

fn server(vars: &[(&str, &str)]) -> (Server, tempfile::NamedTempFile) {
    let tokens = tempfile::NamedTempFile::new().expect("a temporary file");
    let text = "flood flood-token-0123456789abcdef\none one-token-0123456789abcdefgh\n";
    std::fs::write(tokens.path(), text).expect("written");
    let mut builder =
        Server::builder().env("WASM_API_TOKENS_FILE", tokens.path().to_str().expect("a plain path"));
    for (name, value) in vars {
        builder = builder.env(name, value);
    }
    (builder.start(), tokens)
}

fn upload(server: &Server, who: &str) -> String {
    let answer = server.request("PUT", "/v1/modules", &[("Authorization", who)], &void_tests::guest("loop"));
    answer.json()["cid"].as_str().expect("a CID").to_owned()
}

fn exec(client: &mut Client, who: &str, request: &Value, prefer: &str) -> Response {
    let headers = [("Authorization", who), ("Prefer", prefer), ("Content-Type", "application/json")];
    client.request("POST", "/v1/exec", &headers, request.to_string().as_bytes()).expect("an answer")
}

/// The times that `count` runs take from request to answer, one after the other, sorted.
fn times(server: &Server, request: &Value, count: usize) -> Vec<Duration> {
    let mut client = server.connect();
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        let answer = exec(&mut client, ONE, request, "wait=60");
        times.push(begin.elapsed());
        assert_eq!(answer.json()["status"], "finished", "{}", answer.text());
    }
    times.sort_unstable();
    times
}

fn p99(times: &[Duration]) -> Duration {
    times[(times.len() * 99).div_ceil(100) - 1]
}

/// How many turns of the loop take about 100 ms of CPU time here.
fn turns_of_100_ms(server: &Server, cid: &str) -> u64 {
    let turns = 50_000_000;
    let request = json!({"target": {"cid": cid}, "entry": "spin", "args": [turns]});
    let mut client = server.connect();
    let least = (0..5)
        .map(|_| {
            let run = exec(&mut client, ONE, &request, "wait=60").json();
            run["usage"]["cpu_ms"].as_u64().expect("a number").max(1)
        })
        .min();
    turns * 100 / least.expect("five runs")
}

/// The p99 of one connection's runs, alone and beside a flood of 100 ms loops.
fn alone_and_flooded(turns: impl Fn(u64) -> u64, count: usize) -> (Duration, Duration, usize) {
    let (server, _tokens) = server(&[("WASM_CPU_MS_BUDGET", "2000")]);
    let (of_flood, of_one) = (upload(&server, FLOOD), upload(&server, ONE));
    let long = turns_of_100_ms(&server, &of_one);
    let request = json!({"target": {"cid": of_one}, "entry": "spin", "args": [turns(long)]});
    // Once more than measured, so that the same is warm.
    times(&server, &request, 20);
    let alone = p99(&times(&server, &request, count));
    let flood = json!({"target": {"cid": of_flood}, "entry": "spin", "args": [long]});
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let flooded = thread::scope(|scope| {
        for _ in 0..FLOODING {
            scope.spawn(|| {
                let mut client = server.connect();
                while !stop.load(Ordering::Relaxed) {
                    let answer = exec(&mut client, FLOOD, &flood, "wait=60");
                    assert_eq!(answer.json()["status"], "finished", "{}", answer.text());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while done.load(Ordering::Relaxed) < 16 {
            thread::sleep(Duration::from_millis(5));
        }
        done.store(0, Ordering::Relaxed);
        let flooded = p99(&times(&server, &request, count));
        stop.store(true, Ordering::Relaxed);
        flooded
    });
    (alone, flooded, done.load(Ordering::Relaxed))
}

/// The part of the processors that this test has where it asks for all of them. A machine that does nothing else gives 1.
fn share_of_the_machine() -> f64 {
    const LONG: Duration = Duration::from_millis(300);
    let count = thread::available_parallelism().map_or(1, usize::from);
    let begin = Instant::now();
    let computed: u64 = thread::scope(|scope| {
        let spin = || {
            while begin.elapsed() < LONG {}
            // The first number of a thread's schedstat is its time on a processor, in nanoseconds.
            let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts");
            stat.split(' ').next().and_then(|time| time.parse::<u64>().ok()).expect("a number")
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(spin)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it only computes")).sum()
    });
    Duration::from_nanos(computed).as_secs_f64() / (begin.elapsed().as_secs_f64() * count as f64)
}

/// A p99 of a few runs is as good as their longest: one hiccup of the machine spoils it. A service that is not fair
/// fails three times in a row.
fn in_one_of_three(
    what: &str,
    measure: impl Fn() -> (Duration, Duration, usize),
    most: impl Fn(Duration) -> Duration,
) {
    for _ in 0..3 {
        let (alone, flooded, done) = measure();
        eprintln!("{what}: p99 alone {alone:?}, beside the flood {flooded:?}; the flood had {done} runs");
        assert!(done > 0, "the flood was starved");
        if flooded <= most(alone) {
            return;
        }
    }
    panic!("{what}: beside the flood they took too long three times in a row");
}

#[test]
fn beside_a_flood_the_same_runs_take_at_most_three_times_as_long() {
    in_one_of_three("100 ms runs", || alone_and_flooded(|long| long, 60), |alone| alone * 3);
}

#[test]
fn beside_a_flood_runs_of_10_ms_take_at_most_three_times_as_long() {
    in_one_of_three("10 ms runs", || alone_and_flooded(|long| long / 10, 300), |alone| alone * 3);
}

#[test]
fn beside_a_flood_the_shortest_runs_take_three_times_as_long_or_a_few_turns() {
    // Three times a fraction of a millisecond is less than the kernel lets what computes go on before it gives way: often to
    // the next tick of its clock, which is 4 ms where it ticks 250 times a second. Every step of a run may meet that: the
    // client (it computes here too), the zygote, the run. In ten measurements on two processors that were busy with others,
    // the p99 lay near one to five ticks. There everything waits for those others as well, however fair the service is:
    // hence the share.
    let share = share_of_the_machine();
    let most = |alone: Duration| (alone * 3).max(FEW_TURNS.div_f64(share.min(share_of_the_machine())));
    in_one_of_three("shortest runs", || alone_and_flooded(|_| 1, 1_000), most);
}

#[test]
fn a_flood_does_not_fill_the_queue_for_another() {
    let (server, _tokens) =
        server(&[("WASM_QUEUE_MAX", "60"), ("WASM_WORKERS", "2"), ("WASM_CPU_MS_BUDGET", "2000")]);
    let (of_flood, of_one) = (upload(&server, FLOOD), upload(&server, ONE));
    let mut client = server.connect();
    let flood = json!({"target": {"cid": of_flood}, "entry": "forever"});
    let mut taken = 0;
    let refused = loop {
        let answer = exec(&mut client, FLOOD, &flood, "respond-async");
        match answer.status {
            202 => taken += 1,
            _ => break answer,
        }
        assert!(taken < 200, "a queue without an end");
    };
    assert_eq!((refused.status, refused.problem().as_str()), (429, "queue_full"));
    assert!((30..=50).contains(&taken), "{taken} of 62 places");
    let request = json!({"target": {"cid": of_one}, "entry": "answer"});
    let begin = Instant::now();
    let answer = exec(&mut client, ONE, &request, "wait=60");
    assert_eq!(answer.json()["result"], 42, "{}", answer.text());
    // Behind at most one run of the flood, not behind all.
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let (server, _tokens) =
        server(&[("WASM_QUEUE_MAX", "20"), ("WASM_WORKERS", "1"), ("WASM_CPU_MS_BUDGET", "500")]);
    let cid = upload(&server, ONE);
    let mut client = server.connect();
    let request = json!({"target": {"cid": cid}, "entry": "forever"});
    // Each takes 500 ms of CPU time and so at least as long: this is known after the first.
    assert_eq!(exec(&mut client, ONE, &request, "wait=60").json()["reason"], "cpu_budget");
    let mut waiting: f64 = 0.0;
    let refused = loop {
        let answer = exec(&mut client, ONE, &request, "respond-async");
        match answer.status {
            202 => waiting += 1.0,
            _ => break answer,
        }
    };
    assert_eq!(refused.status, 429);
    let seconds: f64 = refused.header("retry-after").expect("a time").parse().expect("seconds");
    assert!(seconds >= (waiting - 2.0) * 0.4 && seconds <= 60.0, "{seconds} s for {waiting} runs of 0.5 s");
    // Refused is not stored.
    let headers = [("Authorization", ONE)];
    let listed = client.request("GET", "/v1/runs?limit=500", &headers, &[]).expect("a list").json();
    assert_eq!(listed["runs"].as_array().expect("a list").len() as f64, waiting + 1.0);
}
