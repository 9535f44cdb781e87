//! What the kernel says about a process that runs a guest: it may do nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::time::Duration;

use serde_json::json;
use void_tests::{Builder, Process, Server, eventually_some, slow_to_compile_module, tests_run_as_root};

const SOON: Duration = Duration::from_secs(10);
/// A user without any right.
const SOMEBODY: u32 = 61_234;
/// All that a worker finds in its environment: a word to its C library.
const ENVIRONMENT: &[u8] = b"GLIBC_TUNABLES=glibc.pthread.rseq=0\0";
const NAMESPACES: [&str; 7] = ["user", "pid", "net", "mnt", "ipc", "uts", "cgroup"];

fn with_time(builder: Builder) -> Server {
    builder.env("WASM_CPU_MS_BUDGET", "30000").env("WASM_WALL_MS_BUDGET", "30000").start()
}

/// Starts an endless loop and returns the process that it runs in.
fn looping(server: &Server) -> Process {
    let cid = server.upload_guest("loop");
    server.exec(json!({"target": {"cid": cid}, "entry": "forever"})).start();
    eventually_some("a run process that is busy", SOON, || {
        // A spare waits for its request and has used next to nothing.
        server
            .processes("void-run")
            .into_iter()
            .find(|process| process.is_running() && process.cpu_ticks() >= 5)
    })
}

/// What holds for every process that handles a guest's bytes.
#[track_caller]
fn assert_powerless(process: Process, supervisor: Process) {
    let who = format!("{} {}", process.name(), process.pid);
    let threads = process.threads();
    assert!(!threads.is_empty(), "{who} is gone");
    for thread in threads {
        let status = process.status(Some(thread));
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[set].trim_start_matches('0'), "", "{who}, thread {thread}: {set}");
        }
        assert_eq!(status["Seccomp"], "2", "{who}, thread {thread}: Seccomp");
        assert_eq!(status["NoNewPrivs"], "1", "{who}, thread {thread}: NoNewPrivs");
        let ids: Vec<_> = status["Uid"].split_whitespace().collect();
        assert!(!ids.contains(&"0"), "{who}: root outside its namespace: {ids:?}");
        assert_eq!(status["Groups"], "", "{who}: supplementary groups");
    }

    let limits = process.limits();
    for (name, most) in [
        ("Max core file size", 0),
        ("Max file size", 0),
        ("Max locked memory", 0),
        ("Max msgqueue size", 0),
        ("Max open files", 16),
        ("Max pending signals", 64),
        ("Max data size", 1 << 40),
        ("Max cpu time", 3600),
    ] {
        let (soft, hard) = limits[name];
        assert!(soft.is_some_and(|soft| soft <= most), "{who}: {name}: soft {soft:?}");
        assert!(hard.is_some_and(|hard| hard <= most), "{who}: {name}: hard {hard:?}");
    }

    if !tests_run_as_root() {
        eprintln!("NOT CHECKED: namespaces, descriptors and root of {who}: only root may look at them");
        return;
    }
    for kind in NAMESPACES {
        let (own, outer) = (process.namespace(kind), supervisor.namespace(kind));
        assert!(
            own.is_some() && own != outer,
            "{who}: namespace {kind}: {own:?}, the supervisor's is {outer:?}"
        );
    }
    assert_eq!(process.root_listing(), Some(vec![]), "{who}: its root is empty");
    assert_eq!(process.read("environ").as_deref(), Some(ENVIRONMENT), "{who}: nothing of the environment");

    let descriptors = process.descriptors().expect("root may look");
    let sockets = descriptors.values().filter(|what| what.starts_with("socket:")).count();
    assert!(sockets <= 2, "{who}: {descriptors:?}");
    for (number, what) in descriptors {
        let harmless = what.starts_with("socket:") || what == "/dev/null";
        assert!(harmless, "{who}: descriptor {number} is {what}");
    }

    let maps = String::from_utf8(process.read("maps").expect("root may look")).expect("text");
    for line in maps.lines() {
        let access = line.split_whitespace().nth(1).unwrap_or_default();
        assert!(!(access.contains('w') && access.contains('x')), "{who}: writable and executable: {line}");
    }
}

fn a_live_run_is_powerless(builder: Builder) {
    let server = with_time(builder);
    let run = looping(&server);
    assert_powerless(run, server.process());
    // The spares will be runs, and the zygote was one's mother.
    for spare in server.processes("void-run") {
        if spare.lives() {
            assert_powerless(spare, server.process());
        }
    }
    assert!(run.lives(), "it was looked at while it ran");
}

#[test]
fn a_live_run_has_no_power_and_sees_nothing() {
    a_live_run_is_powerless(Server::builder());
}

#[test]
fn a_live_run_has_no_power_either_where_the_server_is_an_ordinary_user() {
    if !tests_run_as_root() {
        eprintln!("the other tests have shown it: they run as an ordinary user");
        return;
    }
    a_live_run_is_powerless(Server::builder().as_user(SOMEBODY));
}

#[test]
fn a_zygote_has_no_power() {
    for builder in [Some(Server::builder()), tests_run_as_root().then(|| Server::builder().as_user(SOMEBODY))]
    {
        let Some(builder) = builder else { continue };
        let server = with_time(builder);
        let run = looping(&server);
        let zygote = run.parent().expect("a live process has a parent");
        assert_eq!(zygote.name(), "void-zygote");
        let status = zygote.status(None);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[set].trim_start_matches('0'), "", "{set}");
        }
        assert_eq!((status["Seccomp"].as_str(), status["NoNewPrivs"].as_str()), ("2", "1"));
        assert_eq!(zygote.threads().len(), 1);
        if tests_run_as_root() {
            assert_eq!(zygote.root_listing(), Some(vec![]));
            assert_eq!(zygote.read("environ").as_deref(), Some(ENVIRONMENT));
            assert_eq!(zygote.namespace("pid"), run.namespace("pid"));
            for (number, what) in zygote.descriptors().expect("root may look") {
                let harmless =
                    what.starts_with("socket:") || what.starts_with("pipe:") || what == "/dev/null";
                assert!(harmless, "descriptor {number} is {what}");
            }
        }
    }
}

#[test]
fn a_compiler_has_no_power() {
    let server = Server::start();
    let cid = server.upload(&slow_to_compile_module(16 << 10));
    server.exec(json!({"target": {"cid": cid}, "entry": "run", "args": [1, 2]})).start();
    let compiler = eventually_some("a compiler at work behind its filter", SOON, || {
        server.processes("void-compiler").into_iter().find(|process| {
            process.status(None).get("Seccomp").is_some_and(|mode| mode == "2") && process.cpu_ticks() > 10
        })
    });
    let status = compiler.status(None);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status[set].trim_start_matches('0'), "", "{set}");
    }
    assert_eq!(status["NoNewPrivs"], "1");
    for thread in compiler.threads() {
        assert_eq!(compiler.status(Some(thread))["Seccomp"], "2");
    }
    let limits = compiler.limits();
    // It writes one file, which it was given: the machine code.
    for (name, most) in [
        ("Max core file size", 0),
        ("Max file size", 1 << 28),
        ("Max cpu time", 60),
        ("Max data size", 1 << 31),
    ] {
        assert!(limits[name].1.is_some_and(|hard| hard <= most), "{name}: {:?}", limits[name]);
    }
    if tests_run_as_root() {
        for kind in NAMESPACES {
            assert_ne!(compiler.namespace(kind), server.process().namespace(kind), "{kind}");
        }
        assert_eq!(compiler.root_listing(), Some(vec![]));
    }
}

#[test]
fn each_run_has_a_process_of_its_own() {
    let server = with_time(Server::builder());
    let cid = server.upload_guest("loop");
    let request = json!({"target": {"cid": cid}, "entry": "forever"});
    for _ in 0..3 {
        server.exec(request.clone()).start();
    }
    eventually_some("three busy run processes", SOON, || {
        let busy =
            server.processes("void-run").into_iter().filter(|process| process.cpu_ticks() >= 2).count();
        (busy == 3).then_some(())
    });
}

#[test]
fn two_modules_share_no_process_and_no_namespace() {
    let server = with_time(Server::builder());
    let spin = server.upload_guest("loop");
    let start = server.upload_guest("start_loop");
    server.exec(json!({"target": {"cid": spin}, "entry": "forever"})).start();
    server.exec(json!({"target": {"cid": start}, "entry": "answer"})).start();
    let busy = eventually_some("two busy run processes", SOON, || {
        let busy: Vec<_> =
            server.processes("void-run").into_iter().filter(|process| process.cpu_ticks() >= 5).collect();
        (busy.len() == 2).then_some(busy)
    });
    assert_ne!(busy[0].parent(), busy[1].parent(), "a zygote serves one module");
    if tests_run_as_root() {
        for kind in NAMESPACES {
            assert_ne!(busy[0].namespace(kind), busy[1].namespace(kind), "{kind}");
        }
        let own: Vec<_> = busy.iter().map(|process| process.status(None)["Uid"].clone()).collect();
        assert_ne!(own[0], own[1], "a user of its own");
    }
}

#[test]
fn the_supervisor_cannot_be_looked_into() {
    let server = Server::builder();
    let server = if tests_run_as_root() { server.as_user(SOMEBODY) } else { server }.start();
    // A process that made itself non-dumpable belongs to root in /proc, whoever it runs as.
    use std::os::unix::fs::MetadataExt;
    let environ = std::fs::metadata(format!("/proc/{}/environ", server.process().pid)).expect("it is alive");
    assert_eq!(environ.uid(), 0, "the supervisor is dumpable");
}

#[test]
fn the_run_process_is_gone_when_the_run_is() {
    let server = Server::builder().env("WASM_CPU_MS_BUDGET", "300").start();
    let cid = server.upload_guest("loop");
    let id = server.exec(json!({"target": {"cid": cid}, "entry": "forever"})).start();
    let process = eventually_some("a busy run process", SOON, || {
        server.processes("void-run").into_iter().find(|process| process.cpu_ticks() >= 2)
    });
    server.wait_for(&id).failed_with("cpu_budget");
    eventually_some("the process is gone, and its zombie too", SOON, || {
        (!process.lives() && !process.is_zombie()).then_some(())
    });
}
