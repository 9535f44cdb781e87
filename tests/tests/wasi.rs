//! WASI preview 1, as a program meets it: what it is given, what it can do, and what is not there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use void_tests::{Run, Server, eventually_some, tests_run_as_root};

const BADF: i64 = 8;
const INVAL: i64 = 28;
const NOMEM: i64 = 48;
const NOTSOCK: i64 = 57;
const SPIPE: i64 = 70;

const MS: i64 = 1_000_000;

#[track_caller]
fn run(server: &Server, cid: &str, fields: Value) -> Run {
    let mut request = json!({"target": {"cid": cid}});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    server.exec(request).wait()
}

/// An i64, which the API writes as a string.
#[track_caller]
fn long(value: &Value) -> i64 {
    value.as_str().unwrap_or_else(|| panic!("no i64: {value}")).parse().unwrap()
}

#[test]
fn argv_and_env_are_as_given() {
    let server = Server::start();
    let cid = server.upload_guest("program");
    let given = json!({"argv": ["prog", "", "ü b", "--x=1"], "env": {"B": "2=3", "A": "", "LANG": "ü"}});
    let ran = run(&server, &cid, given);
    assert_eq!(ran.status(), "finished", "{}", ran.record());
    assert_eq!(ran.record()["stdout"], "prog\0\0ü b\0--x=1\0");
    assert_eq!(ran.record()["stderr"], "A=\0B=2=3\0LANG=ü\0");
    assert_eq!(ran.record()["exit_code"], 0);
    assert_eq!(ran.result(), &json!(null));
}

#[test]
fn without_argv_and_env_there_is_a_name_and_nothing_of_the_host() {
    let server = Server::builder().env("VERY_SECRET", "x").start();
    let cid = server.upload_guest("program");
    assert_eq!(server.run(&cid, "argc", json!([])).result(), &json!(1));
    let ran = run(&server, &cid, json!({}));
    assert_eq!(ran.record()["stdout"], "module\0", "{}", ran.record());
    assert_eq!(ran.record()["stderr"].as_str().unwrap_or_default(), "");
}

#[test]
fn argv_and_env_up_to_their_limit_arrive() {
    let server = Server::start();
    let cid = server.upload_guest("program");
    let arguments: Vec<String> = (0..256).map(|_| "x".repeat(255)).collect();
    let most =
        run(&server, &cid, json!({"entry": "argc", "argv": arguments, "env": {"A": "y".repeat(65_533)}}));
    assert_eq!(most.result(), &json!(256));
    let over = json!({"target": {"cid": cid}, "argv": arguments, "env": {"A": "y".repeat(65_534)}});
    let refused = server.exec(over).send();
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(refused.json()["code"], "invalid_value");
}

#[test]
fn stdin_is_read_to_its_end() {
    let server =
        Server::builder().env("WASM_CPU_MS_BUDGET", "2000").env("WASM_WALL_MS_BUDGET", "5000").start();
    let cid = server.upload_guest("program");
    // Not a multiple of any buffer.
    for length in [0, 1, 65_535, 65_536, 65_537, 1_000_003] {
        let text: String = (0..length).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
        let sum: u64 = text.bytes().map(u64::from).sum();
        let ran = run(&server, &cid, json!({"entry": "drain", "stdin": text}));
        assert_eq!(ran.result(), &json!([length, sum.to_string()]), "{length} bytes");
    }
    assert_eq!(server.run(&cid, "drain", json!([])).result(), &json!([0, "0"]), "without stdin");
}

#[test]
fn what_goes_in_comes_out() {
    let server = Server::start();
    let cid = server.upload_guest("program");
    let text = "grün\n".repeat(1_000) + "no end of line";
    let ran = run(&server, &cid, json!({"entry": "cat", "stdin": text}));
    assert_eq!(ran.record()["stdout"], text.as_str());
}

#[test]
fn nobody_needs_to_read_stdin() {
    let server = Server::start();
    let cid = server.upload_guest("program");
    let ran = run(&server, &cid, json!({"entry": "argc", "stdin": "x".repeat(1_000_000)}));
    assert_eq!(ran.result(), &json!(1));
    // A module without WASI is not sent any.
    let add = server.upload_guest("add");
    let ran = run(&server, &add, json!({"entry": "add", "args": [2, 3], "stdin": "x".repeat(1_000_000)}));
    assert_eq!(ran.result(), &json!(5));
}

#[test]
fn every_exit_code_is_one() {
    let server = Server::start();
    let cid = server.upload_guest("program");
    for code in [0, 1, 7, 125, 126, 127, 255, 256, i32::MAX, -1, -125, i32::MIN] {
        let ran = run(&server, &cid, json!({"entry": "exit", "args": [code]}));
        if code == 0 {
            assert_eq!((ran.status(), ran.reason()), ("finished", ""), "{}", ran.record());
        } else {
            ran.failed_with("exit");
            assert!(ran.error().contains(&format!("with code {code}:")), "{}", ran.error());
        }
        assert_eq!(ran.record()["exit_code"], json!(code), "{}", ran.record());
    }
}

#[test]
fn what_was_written_before_the_end_is_kept_however_it_came() {
    let server = Server::start();
    let cid = server.upload_guest("program");
    let trapped = server.run(&cid, "greet_and_stop", json!([]));
    trapped.failed_with("trap");
    assert_eq!(trapped.record()["stdout"], "no lineno line");
    assert_eq!(trapped.record()["stderr"], "hello\n");
    let exited = server.run(&cid, "greet_and_exit", json!([3]));
    exited.failed_with("exit");
    assert_eq!(exited.record()["stdout"], "no line");
    let killed = server.run(&cid, "greet_forever", json!([]));
    killed.failed_with("cpu_budget");
    assert_eq!(killed.record()["stdout"], "hello\n");
}

#[test]
fn output_beyond_its_limit_is_cut_and_said_to_be() {
    let server = Server::builder()
        .env("WASM_OUTPUT_MAX_BYTES", "1000")
        .env("WASM_CPU_MS_BUDGET", "5000")
        .env("WASM_WALL_MS_BUDGET", "20000")
        .start();
    let cid = server.upload_guest("program");
    // 60 MB.
    let ran = server.run(&cid, "flood", json!([1_000]));
    assert_eq!(ran.status(), "finished", "{}", ran.record());
    assert_eq!(ran.record()["stdout"].as_str().unwrap().len(), 1_000);
    assert_eq!(
        ran.record()["stdout_truncated"],
        json!(true),
        "{:?}",
        ran.record().as_object().unwrap().keys()
    );
}

#[test]
fn output_without_end_ends_the_run() {
    let server =
        Server::builder().env("WASM_CPU_MS_BUDGET", "10000").env("WASM_WALL_MS_BUDGET", "30000").start();
    let cid = server.upload_guest("program");
    let ran = server.run(&cid, "flood", json!([2_000_000_000]));
    ran.failed_with("output");
    assert_eq!(ran.record()["stdout"].as_str().unwrap().len(), 65_536);
}

#[test]
fn the_clocks_tell_the_time() {
    let server = Server::start();
    let cid = server.upload_guest("program");
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let wall = Duration::from_nanos(long(server.run(&cid, "now", json!([0])).result()).unsigned_abs());
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(before <= wall && wall <= after, "{before:?} {wall:?} {after:?}");
    assert_eq!(server.run(&cid, "steps_back", json!([])).result(), "0");
    for clock in [0, 1] {
        let resolution = long(server.run(&cid, "resolution", json!([clock])).result());
        assert!((1..=MS).contains(&resolution), "clock {clock}: {resolution}");
    }
    for clock in [2, 3] {
        assert_eq!(server.run(&cid, "clock_error", json!([clock])).result(), &json!(BADF), "CPU time clocks");
    }
    server.run(&cid, "clock_error", json!([4])).failed_with("trap");
}

#[test]
fn random_numbers_never_come_twice() {
    let server = Server::start();
    let cid = server.upload_guest("program");
    let mut seen = std::collections::BTreeSet::new();
    // Forked from one zygote, one after the other.
    for _ in 0..20 {
        let ran = server.run(&cid, "random", json!([]));
        for number in ran.result().as_array().unwrap() {
            assert!(seen.insert(long(number)), "{number} came twice");
        }
    }
    assert_eq!(server.run(&cid, "random_much", json!([])).result(), &json!(0));
    for (at, length) in [(262_144, 1), (0, -1), (-1, 2)] {
        server.run(&cid, "random_at", json!([at, length])).failed_with("trap");
    }
}

#[test]
fn sleeping_is_waiting_and_not_work() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "40").start();
    let cid = server.upload_guest("program");
    let ran = server.run(&cid, "sleep", json!([(50 * MS).to_string()]));
    assert!(long(ran.result()) >= 50 * MS, "slept too short: {}", ran.record());
    assert!(ran.usage("wait_ms") >= 49 && ran.usage("wall_ms") >= 50, "{}", ran.record());
    assert!(ran.usage("cpu_ms") < 40, "{}", ran.record());
    assert_eq!(ran.usage("syscalls"), 0, "sleeping is no gateway call");
    for clock in [0, 1] {
        let ran = server.run(&cid, "sleep_until", json!([clock, (30 * MS).to_string()]));
        // Two clocks, two roundings.
        assert!(long(ran.result()) >= 29 * MS, "clock {clock}: {}", ran.record());
    }
}

#[test]
fn a_sleep_ends_with_the_runs_time() {
    let server = Server::builder().env("WASM_WALL_MS_BUDGET", "100").start();
    let cid = server.upload_guest("program");
    for nanoseconds in [3_600_000 * MS, -1] {
        let ran = server.run(&cid, "sleep", json!([nanoseconds.to_string()]));
        ran.failed_with("wall_budget");
        assert!(ran.usage("wall_ms") < 1_000, "{}", ran.record());
    }
}

#[test]
fn of_what_is_waited_for_the_first_counts() {
    let server = Server::start();
    let cid = server.upload_guest("program");
    let hour = (3_600_000 * MS).to_string();
    let short = (5 * MS).to_string();
    assert_eq!(server.run(&cid, "two_clocks", json!([short, hour])).result(), &json!([1, "7", 0]));
    assert_eq!(server.run(&cid, "two_clocks", json!([hour, short])).result(), &json!([1, "8", 0]));
    assert_eq!(server.run(&cid, "two_clocks", json!(["0", "0"])).result(), &json!([2, "7", 0]));
    // Streams are ready at once: kind 1 reads, 2 writes.
    assert_eq!(server.run(&cid, "stream_and_clock", json!([1, 0])).result(), &json!([1, "8", 0, 1]));
    assert_eq!(server.run(&cid, "stream_and_clock", json!([2, 1])).result(), &json!([1, "8", 0, 2]));
    assert_eq!(server.run(&cid, "stream_and_clock", json!([1, 9])).result(), &json!([1, "8", BADF, 1]));
    assert_eq!(server.run(&cid, "yield", json!([])).result(), &json!(0));
}

#[test]
fn polling_nonsense_is_refused() {
    let server = Server::start();
    let cid = server.upload_guest("program");
    for (arguments, code) in
        [([1024, 2048, 0, 100], INVAL), ([1024, 2048, 1025, 100], INVAL), ([1024, 2048, -1, 100], INVAL)]
    {
        assert_eq!(server.run(&cid, "poll", json!(arguments)).result(), &json!(code), "{arguments:?}");
    }
    for arguments in
        [[262_140, 2048, 1, 100], [1024, 262_140, 1, 100], [1024, 2048, 1, 262_142], [-8, 2048, 1, 100]]
    {
        server.run(&cid, "poll", json!(arguments)).failed_with("trap");
    }
}

#[test]
fn there_are_no_files_and_no_network() {
    let server = Server::builder().env("WASM_MEM_PAGES_MAX", "2000").start();
    let cid = server.upload_guest("program");
    for directory in [-1, 0, 1, 2, 3, 4, 100] {
        assert_eq!(server.run(&cid, "prestat", json!([directory])).result(), &json!(BADF), "{directory}");
        assert_eq!(server.run(&cid, "open", json!([directory])).result(), &json!(BADF), "{directory}");
    }
    assert_eq!(server.run(&cid, "accept", json!([3])).result(), &json!(BADF));
    assert_eq!(server.run(&cid, "accept", json!([0])).result(), &json!(NOTSOCK));
    assert_eq!(server.run(&cid, "seek", json!([1])).result(), &json!(SPIPE));
    server.run(&cid, "open_long", json!([300_000])).failed_with("trap");
    assert_eq!(server.run(&cid, "open_long", json!([-1])).result(), &json!(NOMEM));
    // A name of a hundred megabytes costs the worker nothing.
    let long = server.run(&cid, "grow_and_open_long", json!([]));
    assert!([json!(NOMEM), json!(BADF)].contains(long.result()), "{}", long.record());
    for (at, length) in [(262_144, 1), (262_143, 2), (0, 300_000), (-1, 1)] {
        server.run(&cid, "write_from", json!([at, length])).failed_with("trap");
    }
}

#[test]
fn a_reactor_begins_once_and_first() {
    let server = Server::start();
    let cid = server.upload_guest("reactor");
    assert_eq!(server.get(&format!("/v1/modules/{cid}")).json()["kind"], "reactor");
    for _ in 0..3 {
        assert_eq!(server.run(&cid, "calls", json!([])).result(), &json!(123));
    }
    assert_eq!(server.run(&cid, "_initialize", json!([])).result(), &json!(null));
}

#[test]
fn all_that_is_offered_can_be_imported_at_once() {
    let server = Server::start();
    let cid = server.upload_guest("everything");
    assert_eq!(server.run(&cid, "answer", json!([])).result(), &json!(42));
}

#[test]
fn a_module_that_is_too_large_is_so_in_a_dry_run_too() {
    for canary in ["1", "0"] {
        let server =
            Server::builder().env("WASM_EXEC_CANARY", canary).env("WASM_MEM_PAGES_MAX", "16").start();
        for (module, name) in [
            ("(module (memory 17) (func (export \"go\")))", "17 pages"),
            ("(module (memory 10) (memory 7) (func (export \"go\")))", "17 pages"),
            ("(module (memory i64 281474976710656) (func (export \"go\")))", "281474976710656 pages"),
            (
                "(module (table 600000 funcref) (table 400001 funcref) (func (export \"go\")))",
                "1000001 elements",
            ),
        ] {
            let ran = server.run(&server.upload_wat(module), "go", json!([]));
            ran.failed_with("memory");
            assert!(ran.error().contains(name), "canary {canary}: {}", ran.error());
        }
        let fits = "(module (memory 10) (memory 6) (table 1000000 funcref) (func (export \"go\")))";
        assert_eq!(
            server.run(&server.upload_wat(fits), "go", json!([])).status(),
            "finished",
            "canary {canary}"
        );
    }
}

#[test]
fn a_run_that_is_killed_used_what_its_module_begins_with() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "20").start();
    let cid = server.upload_wat("(module (memory 3) (memory 4) (func (export \"go\") (loop $l (br $l))))");
    let ran = server.run(&cid, "go", json!([]));
    ran.failed_with("cpu_budget");
    assert_eq!(ran.usage("mem_pages"), 7);
}

#[test]
fn a_live_wasi_run_has_no_more_power_than_any_other() {
    let server =
        Server::builder().env("WASM_CPU_MS_BUDGET", "30000").env("WASM_WALL_MS_BUDGET", "30000").start();
    let cid = server.upload_guest("program");
    server.exec(json!({"target": {"cid": cid}, "entry": "forever"})).start();
    let live = eventually_some("a run process that is busy", Duration::from_secs(20), || {
        server
            .processes("void-run")
            .into_iter()
            .find(|process| process.is_running() && process.cpu_ticks() >= 5)
    });
    let threads = live.threads();
    assert_eq!(threads.len(), 1, "one thread: {threads:?}");
    for process in server.processes("void-zygote") {
        assert_eq!(process.threads().len(), 1, "a zygote has one thread");
    }
    let status = live.status(None);
    assert_eq!((status["Seccomp"].as_str(), status["NoNewPrivs"].as_str()), ("2", "1"));
    assert_eq!(status["CapEff"].trim_start_matches('0'), "");
    if tests_run_as_root() {
        let descriptors = live.descriptors().expect("root may look");
        let sockets = descriptors.values().filter(|what| what.starts_with("socket:")).count();
        assert!(sockets <= 2, "{descriptors:?}");
        let harmless = |what: &String| what.starts_with("socket:") || what == "/dev/null";
        assert!(descriptors.values().all(harmless), "no event loop's descriptors: {descriptors:?}");
    } else {
        eprintln!("NOT CHECKED: descriptors: only root may look at them");
    }
    assert!(live.lives(), "it was looked at while it ran");
}
