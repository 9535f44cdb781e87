//! Where the kernel refuses a layer, the service does not start and says which; or it starts, because that was allowed, and
//! says what is missing. The kernel refuses for real: the server is in a user namespace that may have no other beneath it, or
//! that has no user but one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use void_tests::{Builder, Process, Server, eventually, eventually_some, tests_run_as_root};

const SOON: Duration = Duration::from_secs(15);
/// A user without any right.
const SOMEBODY: u32 = 61_235;
const LAYERS: [&str; 11] = [
    "user",
    "namespaces",
    "namespace_limits",
    "empty_root",
    "limits",
    "capabilities",
    "process",
    "speculation",
    "landlock",
    "memory",
    "seccomp",
];

/// Root of a user namespace in which no other users exist.
fn without_other_users() -> Builder {
    Server::builder().through(&["unshare", "--user", "--map-root-user"])
}

/// Root of such a namespace, beneath which there can be no other.
fn without_namespaces_as_root() -> Builder {
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\"";
    Server::builder().through(&["unshare", "--user", "--map-root-user", "sh", "-c", script])
}

/// An ordinary user without any capability, in a namespace beneath which there can be no other.
fn without_namespaces() -> Builder {
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                  exec setpriv --inh-caps=-all --ambient-caps=-all \"$0\"";
    let command = ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", script];
    let builder = Server::builder().through(&command);
    if tests_run_as_root() { builder.as_user(SOMEBODY) } else { builder }
}

#[track_caller]
fn refuses(builder: &Builder, layer: &str, remedy: &str) {
    // More than once: what is said must not depend on who is faster.
    for _ in 0..10 {
        let exited = builder.clone().refuses_to_start();
        let said = format!("the isolation layer `{layer}` does not stand");
        exited.with_code(69).and_says(&[&said, remedy, "WASM_ALLOW_WEAKER_ISOLATION=1"]);
    }
}

#[test]
fn without_namespaces_it_does_not_start_and_says_so() {
    refuses(&without_namespaces(), "namespaces", "user.max_user_namespaces above 0");
    refuses(&without_namespaces_as_root(), "namespaces", "user.max_user_namespaces above 0");
}

#[test]
fn without_another_user_it_does_not_start_and_says_so() {
    refuses(&without_other_users(), "user", "2000000000");
}

/// Starts it nevertheless, and looks at what it says and at what stands.
#[track_caller]
fn starts_without(builder: &Builder, missing: &[&str]) {
    let earlier: BTreeSet<_> = Process::strays().into_iter().collect();
    let builder = builder.clone().env("WASM_ALLOW_WEAKER_ISOLATION", "1");
    let server = builder.env("WASM_CPU_MS_BUDGET", "60000").env("WASM_WALL_MS_BUDGET", "60000").start();
    let stand: Vec<_> = LAYERS.into_iter().filter(|layer| !missing.contains(layer)).collect();

    let policy = server.get("/v1/policy").json();
    assert_eq!(policy["layers"], json!(stand));
    let said = policy["layers_missing"].as_array().expect("a list");
    let names: Vec<_> = said.iter().map(|one| one["layer"].as_str().expect("a name")).collect();
    assert_eq!(names, missing);
    assert!(said.iter().all(|one| one["detail"].as_str().is_some_and(|why| !why.is_empty())), "{said:?}");
    let metrics = server.metrics();
    for layer in LAYERS {
        let value = metrics.sum("void_wasm_isolation_layer", &[("layer", layer)]);
        assert_eq!(value, f64::from(u8::from(stand.contains(&layer))), "{layer}");
    }
    for layer in missing {
        server.logs(&["isolation is weaker than it should be", layer]);
    }

    let cid = server.upload_wat(
        r#"(module
            (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
            (func (export "trap") unreachable)
            (func (export "forever") (loop br 0)))"#,
    );
    assert_eq!(server.run(&cid, "add", json!([40, 2])).result(), &json!(42));
    server.run(&cid, "trap", json!([])).failed_with("trap");
    for _ in 0..3 {
        server.exec(json!({"target": {"cid": cid}, "entry": "forever"})).start();
    }
    let busy = || -> Vec<_> {
        let runs = server.processes("void-run").into_iter();
        runs.filter(|run| run.cpu_ticks() >= 3).collect()
    };
    let runs =
        eventually_some("three busy run processes", SOON, || Some(busy()).filter(|runs| runs.len() == 3));
    for run in &runs {
        looks_as_said(*run, server.process(), missing);
    }

    // Whatever else is missing: who dies takes its own along.
    let zygote = runs[0].parent().expect("a live process has a parent");
    assert_eq!(zygote.name(), "void-zygote");
    let own: Vec<_> = runs.iter().filter(|run| run.parent() == Some(zygote)).collect();
    zygote.kill();
    eventually("its runs die with a zygote", SOON, || !own.iter().any(|run| run.lives()));
    assert_eq!(server.run(&cid, "add", json!([1, 2])).result(), &json!(3));
    for _ in 0..3 {
        server.exec(json!({"target": {"cid": cid}, "entry": "forever"})).start();
    }
    eventually("busy run processes again", SOON, || busy().len() >= 3);
    server.kill_and_expect_nothing_left(Duration::from_secs(5));
    eventually("no process without a supervisor", SOON, || {
        Process::strays().into_iter().all(|process| earlier.contains(&process))
    });
}

/// What the kernel shows of a run process is what the service says of it.
#[track_caller]
fn looks_as_said(run: Process, supervisor: Process, missing: &[&str]) {
    let status = run.status(None);
    assert_eq!((status["Seccomp"].as_str(), status["NoNewPrivs"].as_str()), ("2", "1"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status[set].trim_start_matches('0'), "", "{set}");
    }
    let bounded = status["CapBnd"].trim_start_matches('0').is_empty();
    assert_eq!(bounded, !missing.contains(&"capabilities"), "CapBnd {}", status["CapBnd"]);
    let limits = run.limits();
    assert_eq!(limits["Max file size"], (Some(0), Some(0)));
    let supervisors = supervisor.limits()["Max processes"];
    if missing.contains(&"limits") {
        // It counts all processes of a user, of which the supervisor and its other workers are some.
        assert_eq!(limits["Max processes"], supervisors);
    } else {
        assert!(limits["Max processes"].1.is_some_and(|most| most < 100), "{:?}", limits["Max processes"]);
    }
    if tests_run_as_root() {
        for kind in ["user", "pid", "net", "mnt", "ipc", "uts", "cgroup"] {
            let (own, outer) = (run.namespace(kind), supervisor.namespace(kind));
            assert!(own.is_some() && outer.is_some());
            assert_eq!(own == outer, missing.contains(&"namespaces"), "{kind}");
        }
        let empty = run.root_listing().expect("root may look").is_empty();
        assert_eq!(empty, !missing.contains(&"empty_root"));
    }
}

#[test]
fn without_another_user_it_starts_where_that_is_allowed() {
    starts_without(&without_other_users(), &["user"]);
}

#[test]
fn without_namespaces_it_starts_where_that_is_allowed() {
    let missing = ["user", "namespaces", "namespace_limits", "empty_root", "limits", "capabilities"];
    starts_without(&without_namespaces(), &missing);
}

#[test]
fn without_namespaces_it_starts_as_root_where_that_is_allowed() {
    // Root of the namespace can still drop everything.
    let missing = ["user", "namespaces", "namespace_limits", "empty_root", "limits"];
    starts_without(&without_namespaces_as_root(), &missing);
}
