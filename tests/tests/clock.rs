//! A clock that jumps, while the service runs and between two starts: nothing is lost, nothing gets out of order.
//!
//! The kernel's clock belongs to the whole machine, so the supervisor alone is given another: a library in front of its C
//! library adds to the wall clock what a file says, at each look. Everything else is the real thing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use void_tests::{Events, Server, eventually};

const SOON: Duration = Duration::from_secs(20);
const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int file = -1;
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) {
        char text[32] = {0};
        if (file < 0) file = open(getenv("CLOCK_FILE"), O_RDONLY | O_CLOEXEC);
        if (pread(file, text, sizeof text - 1, 0) > 0) now->tv_sec += atoll(text);
    }
    return result;
}
"#;

/// A wall clock that can be set.
struct Clock(TempDir);

impl Clock {
    /// `None` where there is no C compiler; the reason is printed.
    fn new() -> Option<Clock> {
        let clock = Clock(TempDir::new().expect("a temporary folder"));
        clock.set(0);
        std::fs::write(clock.path("shim.c"), SHIM).expect("written");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o", &clock.path("shim.so"), &clock.path("shim.c")])
            .output();
        match built {
            Ok(output) if output.status.success() => Some(clock),
            Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                eprintln!("SKIPPED: there is no C compiler to make a clock with: {error}");
                None
            }
        }
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a plain path").to_owned()
    }

    /// Sets it so many seconds ahead of the real one. In one write of one length, so that no half is read.
    fn set(&self, seconds: i64) {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(self.path("offset"));
        file.expect("the file").write_all_at(format!("{seconds:<20}").as_bytes(), 0).expect("written");
    }

    /// A server with this clock that keeps runs for an hour.
    fn server(&self) -> Server {
        Server::builder()
            .env("LD_PRELOAD", &self.path("shim.so"))
            .env("CLOCK_FILE", &self.path("offset"))
            .env("WASM_RUNS_KEEP_HOURS", "1")
            .start()
    }
}

/// Ten runs, each with a key; gives their records.
fn runs(server: &Server, cid: &str, prefix: &str) -> Vec<Value> {
    let run = |number| {
        let request = json!({"target": {"cid": cid}, "entry": "answer", "idempotency_key": format!("{prefix}{number}")});
        server.exec(request).wait().record().clone()
    };
    (0..10).map(run).collect()
}

fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record[field].as_str().unwrap_or_else(|| panic!("no {field}: {record}"))
}

/// Nothing of these is lost or changed, and their keys are known.
fn all_there(server: &Server, cid: &str, prefix: &str, records: &[Value]) {
    for (number, record) in records.iter().enumerate() {
        assert_eq!(server.look_up(text(record, "run_id")).record(), record);
        let key = format!("{prefix}{number}");
        let again = json!({"target": {"cid": cid}, "entry": "answer", "idempotency_key": key});
        let again = server.exec(again).send();
        assert_eq!((again.status, &again.json()["run_id"]), (200, &record["run_id"]), "{key} is forgotten");
    }
}

/// In the order in which they were accepted, ids and times rise.
fn in_order(records: &[Value]) {
    for pair in records.windows(2) {
        assert!(text(&pair[0], "run_id") < text(&pair[1], "run_id"), "{} then {}", pair[0], pair[1]);
        assert!(
            text(&pair[0], "finished_at") <= text(&pair[1], "created_at"),
            "{} then {}",
            pair[0],
            pair[1]
        );
    }
    for record in records {
        let times = ["created_at", "started_at", "finished_at"].map(|field| text(record, field));
        assert!(times.is_sorted(), "{record}");
    }
}

fn lists(server: &Server, newest_last: &[Value]) {
    let listed = server.get("/v1/runs?limit=500").json();
    let listed: Vec<_> =
        listed["runs"].as_array().expect("a list").iter().rev().map(|run| &run["run_id"]).collect();
    let wanted: Vec<_> = newest_last.iter().map(|run| &run["run_id"]).collect();
    assert_eq!(listed, wanted);
}

#[test]
fn a_clock_that_jumps_while_the_service_runs_disturbs_nothing() {
    let Some(clock) = Clock::new() else { return };
    let server = clock.server();
    let cid = server.upload_guest("loop");
    let mut all = Vec::new();
    let jumps = [("now", 0), ("later", 10 * YEAR), ("back", 0), ("before", -10 * YEAR), ("again", 0)];
    for (jumped, (prefix, ahead)) in jumps.into_iter().enumerate() {
        clock.set(ahead);
        // The writer looks at the clock beside its work, and before it deletes what is old.
        eventually("the jump is noticed", SOON, || {
            server.run(&cid, "answer", json!([])).result();
            server.log().matches("the machine's clock jumped").count() == jumped
        });
        let more = runs(&server, &cid, prefix);
        all_there(&server, &cid, prefix, &more);
        all.extend(more);
        all_there(&server, &cid, "now", &all[..10]);
        in_order(&all);
    }
    let mut events = Events::follow(&server, "", Some(0));
    let events: Vec<_> = std::iter::from_fn(|| events.next(Duration::from_millis(500))).collect();
    assert!(events.len() >= 2 * all.len(), "{}", events.len());
    assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert!(events.windows(2).all(|pair| pair[0].data["time"].as_str() <= pair[1].data["time"].as_str()));
}

#[test]
fn a_start_with_a_clock_years_ahead_deletes_nothing() {
    let Some(clock) = Clock::new() else { return };
    let server = clock.server();
    let cid = server.upload_guest("loop");
    let mut all = runs(&server, &cid, "now");
    clock.set(10 * YEAR);
    let server = server.restart();
    server.logs(&["WARN", "far ahead of the newest record"]);
    // Whatever is too old goes with the first changes.
    all.extend(runs(&server, &cid, "later"));
    all_there(&server, &cid, "now", &all[..10]);
    all_there(&server, &cid, "later", &all[10..]);
    in_order(&all);
    lists(&server, &all);
    assert_eq!(server.metrics().sum("void_wasm_runs_deleted_total", &[]), 0.0);
    // And back: what has times of another decade stays readable.
    clock.set(0);
    let server = server.restart();
    server.logs(&["WARN", "behind the newest record"]);
    let more = runs(&server, &cid, "back");
    in_order(&more);
    all.extend(more);
    all_there(&server, &cid, "now", &all[..10]);
    lists(&server, &all);
}

#[test]
fn a_start_with_a_clock_set_back_goes_on_from_the_newest_record() {
    let Some(clock) = Clock::new() else { return };
    let server = clock.server();
    let cid = server.upload_guest("loop");
    let mut all = runs(&server, &cid, "now");
    clock.set(-2 * HOUR);
    let server = server.restart();
    server.logs(&["WARN", "behind the newest record"]);
    all.extend(runs(&server, &cid, "back"));
    all_there(&server, &cid, "now", &all[..10]);
    in_order(&all);
    lists(&server, &all);
}
