//! `kill -9` of anything costs at most the runs that were in it. All that is left behind is counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use void_tests::{Load, Process, Server, eventually, eventually_some, marked, slow_to_compile_module, wat};

const SOON: Duration = Duration::from_secs(15);

fn patient() -> Server {
    Server::builder().env("WASM_CPU_MS_BUDGET", "20000").env("WASM_WALL_MS_BUDGET", "40000").start()
}

fn forever(cid: &str) -> Value {
    json!({"target": {"cid": cid}, "entry": "forever"})
}

/// The busy run processes.
fn busy(server: &Server) -> BTreeSet<Process> {
    server.processes("void-run").into_iter().filter(|process| process.cpu_ticks() >= 3).collect()
}

/// Starts a run and returns its id and the process that it is in.
fn start_busy(server: &Server, request: Value) -> (String, Process) {
    let before = busy(server);
    let id = server.exec(request).start();
    let process = eventually_some("a busy run process", SOON, || {
        busy(server).into_iter().find(|process| !before.contains(process))
    });
    (id, process)
}

/// A module like `guests/loop.wat` and no other: the number makes its bytes its own.
fn loop_number(number: usize) -> Vec<u8> {
    wat(&format!(
        r#"(module
            (func (export "number") (result i32) i32.const {number})
            (func (export "forever") (loop br 0))
            (func (export "spin") (param i64) (result i64)
                (loop
                    (local.set 0 (i64.sub (local.get 0) (i64.const 1)))
                    (br_if 0 (i64.gt_s (local.get 0) (i64.const 0))))
                local.get 0))"#
    ))
}

#[track_caller]
fn goes_on(server: &Server, cid: &str) {
    assert_eq!(server.run(cid, "number", json!([])).result(), &json!(1));
}

#[test]
fn a_killed_run_process_costs_its_own_run_alone() {
    let server = patient();
    let cid = server.upload(&loop_number(1));
    let (other, survivor) =
        start_busy(&server, json!({"target": {"cid": cid}, "entry": "spin", "args": [2_000_000_000]}));
    let (id, victim) = start_busy(&server, forever(&cid));
    victim.kill();
    server.wait_for(&id).failed_with("worker_crashed");
    assert!(survivor.lives() || server.look_up(&other).status() == "finished");
    assert_eq!(server.wait_for(&other).result(), &json!("0"));
    goes_on(&server, &cid);
}

#[test]
fn a_killed_spare_costs_nothing() {
    let server = patient();
    let cid = server.upload(&loop_number(1));
    goes_on(&server, &cid);
    for _ in 0..20 {
        let spares = server.processes("void-run");
        spares.iter().for_each(Process::kill);
        // One that is given a run in the very moment of its death takes the run with it: that moment is over here.
        eventually("the spares are gone", SOON, || !spares.iter().any(Process::lives));
        goes_on(&server, &cid);
    }
}

#[test]
fn a_killed_zygote_costs_the_runs_of_its_module_alone() {
    let server = patient();
    let (one, two) = (server.upload(&loop_number(1)), server.upload(&loop_number(2)));
    let (other, _) =
        start_busy(&server, json!({"target": {"cid": two}, "entry": "spin", "args": [2_000_000_000]}));
    let (id, victim) = start_busy(&server, forever(&one));
    let zygote = victim.parent().expect("a live process has a parent");
    assert_eq!(zygote.name(), "void-zygote");
    zygote.kill();
    server.wait_for(&id).failed_with("worker_crashed");
    eventually("the run dies with its zygote", SOON, || !victim.lives());
    assert_eq!(server.wait_for(&other).result(), &json!("0"));
    goes_on(&server, &one);
}

#[test]
fn a_killed_compiler_costs_its_own_run_alone() {
    let server = patient();
    let slow = server.upload(&slow_to_compile_module(12 << 10));
    let cid = server.upload(&loop_number(1));
    let (other, _) =
        start_busy(&server, json!({"target": {"cid": cid}, "entry": "spin", "args": [2_000_000_000]}));
    let id = server.exec(json!({"target": {"cid": slow}, "entry": "run", "args": [1, 2]})).start();
    let compiler =
        eventually_some("a compiler", SOON, || server.processes("void-compiler").into_iter().next());
    compiler.kill();
    server.wait_for(&id).failed_with("worker_crashed");
    assert_eq!(server.wait_for(&other).result(), &json!("0"));
    goes_on(&server, &cid);
}

#[test]
fn a_killed_spawner_is_replaced() {
    let server = patient();
    let cid = server.upload(&loop_number(1));
    for round in 0..5 {
        let (id, _) = start_busy(&server, forever(&cid));
        let spawner = server.processes("void-spawner").pop().expect("a spawner");
        spawner.kill();
        // What the spawner had started dies with it.
        server.wait_for(&id).failed_with("worker_crashed");
        eventually("the service goes on", SOON, || {
            let run = server.run(&cid, "number", json!([]));
            assert!(
                matches!((run.status(), run.reason()), ("finished", _) | (_, "worker_crashed")),
                "{}",
                run.record()
            );
            run.status() == "finished"
        });
        // Another module needs a compiler and a zygote from the new one.
        let next = server.upload(&loop_number(100 + round));
        assert_eq!(server.run(&next, "number", json!([])).result(), &json!(100 + round));
        assert_eq!(server.processes("void-spawner").len(), 1);
    }
}

#[test]
fn a_killed_supervisor_leaves_nothing_behind() {
    let earlier: BTreeSet<_> = Process::strays().into_iter().collect();
    for _ in 0..5 {
        let server = patient();
        let cid = server.upload(&loop_number(1));
        let slow = server.upload(&slow_to_compile_module(12 << 10));
        for _ in 0..3 {
            start_busy(&server, forever(&cid));
        }
        server.exec(json!({"target": {"cid": slow}, "entry": "run", "args": [1, 2]})).start();
        eventually("a compiler", SOON, || !server.processes("void-compiler").is_empty());
        server.kill_and_expect_nothing_left(Duration::from_secs(5));
    }
    eventually("no process without a supervisor", SOON, || {
        Process::strays().into_iter().all(|process| earlier.contains(&process))
    });
}

#[test]
fn a_killed_supervisor_under_load_leaves_nothing_behind() {
    let server = patient();
    let cid = server.upload(&loop_number(1));
    goes_on(&server, &cid);
    let load = Load::start(&server, 8, move |_, _| json!({"target": {"cid": cid}, "entry": "number"}));
    eventually("some load", SOON, || load.done() > 200);
    server.kill_and_expect_nothing_left(Duration::from_secs(5));
}

#[test]
fn a_thousand_kills_leave_no_trace() {
    const KILLS: [(&str, usize); 4] =
        [("void-run", 700), ("void-zygote", 150), ("void-compiler", 100), ("void-spawner", 50)];
    // At each look at the family one in so many of each kind is killed.
    let one_in = |name: &str| match name {
        "void-run" => 4,
        "void-compiler" => 2,
        _ => 16,
    };
    let server = patient();
    let modules: Vec<_> = (1..=4).map(|number| server.upload(&loop_number(number))).collect();

    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    // The same few runs before and after, so that the same is warm.
    let settle = || {
        for process in server.processes("void-zygote") {
            process.kill();
        }
        // Connections that are open at the same time are spread over all processors.
        let mut clients: Vec<_> = (0..processors).map(|_| server.connect()).collect();
        for (module, number) in modules.iter().zip(1..) {
            let body = json!({"target": {"cid": module}, "entry": "number"}).to_string();
            for client in &mut clients {
                eventually("a run of every module on every processor", SOON, || {
                    let headers = [("Prefer", "wait=60")];
                    let answer = client.request("POST", "/v1/exec", &headers, body.as_bytes());
                    answer.is_ok_and(|answer| answer.json()["result"] == number)
                });
            }
        }
        drop(clients);
        let mut last = (0, 0);
        let mut since = Instant::now();
        eventually_some("the counts come to rest", Duration::from_secs(30), || {
            let family = server.process().descendants();
            assert!(family.len() < 500, "{} processes", family.len());
            let zombies = family.iter().filter(|process| process.is_zombie()).count();
            let descriptors = server.process().descriptors().unwrap_or_default();
            // Machine code is kept on purpose, up to a limit of its own.
            let code = descriptors.values().filter(|what| what.starts_with("/memfd:code")).count();
            assert!(code <= 640, "{code} modules kept");
            let now = (descriptors.len() - code, family.len());
            if now != last || zombies > 0 {
                (last, since) = (now, Instant::now());
            }
            // Longer than it takes until unused spares are let go.
            (since.elapsed() > Duration::from_secs(3)).then_some(now)
        })
    };
    let before = settle();
    let memory_before = server.process().kib("VmRSS");

    // Three connections run what is warm; one brings a new module each time, so that compilers and zygotes come and go.
    let known = modules.clone();
    let load = Load::start(&server, 3, move |thread, turn| {
        let module = &known[(thread + turn) % known.len()];
        json!({"target": {"cid": module}, "entry": "spin", "args": [turn % 7 * 1_000_000]})
    });
    let fresh = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    let unkilled = std::thread::scope(|scope| {
        let (server, fresh, stop) = (&server, &fresh, &done);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let module = marked(&slow_to_compile_module(128), fresh.fetch_add(1, Ordering::Relaxed));
                let response = server.put_module(&module);
                if response.status == 503 {
                    // Killed while it looked at the module, twice in a row.
                    assert_eq!(response.problem(), "unavailable");
                    continue;
                }
                assert_eq!(response.status, 201, "{}", response.text());
                let run = server.run(response.json()["cid"].as_str().expect("a CID"), "run", json!([1, 2]));
                let fine = run.status() == "finished" || run.reason() == "worker_crashed";
                assert!(fine, "{}", run.record());
            }
        });
        let mut left = BTreeMap::from(KILLS);
        let mut dice = 1_u32;
        let give_up = Instant::now() + Duration::from_secs(300);
        while left.values().any(|count| *count > 0) && Instant::now() < give_up {
            for process in server.process().descendants() {
                let name = process.name();
                let Some(left) = left.get_mut(name.as_str()).filter(|left| **left > 0) else { continue };
                dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if (dice >> 16).is_multiple_of(one_in(&name)) && process.lives() {
                    process.kill();
                    *left -= 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        left
    });
    assert!(unkilled.values().all(|count| *count == 0), "not killed in time: {unkilled:?}");
    let outcomes = load.finish();
    let fine = |outcome: &String| outcome == "finished" || outcome == "error:worker_crashed";
    assert!(outcomes.keys().all(fine), "{outcomes:?}");
    assert!(outcomes.get("finished").is_some_and(|count| *count > 200), "{outcomes:?}");

    let after = settle();
    assert!(after.0 <= before.0 + 4, "descriptors of the supervisor: {} before, {} after", before.0, after.0);
    assert!(after.1 <= before.1 + 2, "processes: {} before, {} after", before.1, after.1);
    let memory = server.process().kib("VmRSS");
    assert!(
        memory < memory_before + (64 << 10),
        "supervisor: {memory_before} KiB before, {memory} KiB after"
    );
    eprintln!("outcomes {outcomes:?}; descriptors and processes {before:?} before, {after:?} after");
}
