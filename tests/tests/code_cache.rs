//! Machine code on disk: a restart compiles nothing again, what was changed is compiled anew, and no tenant gets another's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use void_tests::{Server, eventually, guest, long_to_compile_module, marked, slow_to_compile_module};

const SOON: Duration = Duration::from_secs(30);
/// Modules of the service's own, which it compiles at each start.
const OWN: f64 = 2.0;

/// Look-ups of machine code, without those for the service's own modules.
fn from(server: &Server, outcome: &str) -> f64 {
    let all = server.metrics().sum("void_wasm_code_cache_total", &[("outcome", outcome)]);
    if outcome == "miss" { all - OWN } else { all }
}

fn files_counted(server: &Server, outcome: &str) -> f64 {
    server.metrics().sum("void_wasm_code_files_total", &[("outcome", outcome)])
}

fn compilers(server: &Server) -> f64 {
    server.metrics().sum("void_wasm_worker_starts_total", &[("role", "compiler")])
}

/// `code/` of a server's state.
fn folder(server: &Server) -> PathBuf {
    server.home().join("state/code")
}

/// The files of machine code below `folder`: each has a name of 64 hex digits.
fn code_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(code_files(&entry.path()));
        } else if entry.file_name().len() == 64 {
            found.push(entry.path());
        }
    }
    found
}

/// Uploads `add`, which prepares it, and waits for its file.
fn with_add_on_disk(server: &Server) -> String {
    let cid = server.upload_guest("add");
    eventually("its code is on disk", SOON, || code_files(&folder(server)).len() == 1);
    cid
}

fn adds(server: &Server, cid: &str) {
    assert_eq!(server.run(cid, "add", json!([2, 3])).result(), &json!(5));
}

#[test]
fn an_upload_is_compiled_before_it_is_run() {
    let server = Server::start();
    let cid = with_add_on_disk(&server);
    let before = compilers(&server);
    adds(&server, &cid);
    assert_eq!(compilers(&server), before, "nobody compiles it again");
    assert_eq!((from(&server, "hit"), files_counted(&server, "written")), (1.0, 1.0));
}

#[test]
fn after_a_restart_a_known_module_runs_without_a_compiler() {
    let server = Server::start();
    let cid = with_add_on_disk(&server);
    let start = server.upload_guest("start_trap");
    let exports = server.get(&format!("/v1/modules/{start}")).json();
    eventually("both are on disk", SOON, || code_files(&folder(&server)).len() == 2);

    let server = server.restart();
    assert_eq!(compilers(&server), OWN);
    adds(&server, &cid);
    adds(&server, &cid);
    // What the file says of the module is complete: that there is a start function, and which exports there are.
    server.run(&start, "answer", json!([])).failed_with("trap");
    assert_eq!(server.get(&format!("/v1/modules/{start}")).json(), exports);
    server.run(&cid, "subtract", json!([2, 3])).failed_with("entry_not_found");
    assert_eq!(compilers(&server), OWN, "none was started");
    assert_eq!((from(&server, "disk"), from(&server, "miss")), (2.0, 0.0));
}

#[test]
fn a_changed_or_cut_file_is_removed_counted_and_made_anew() {
    let mut server = Server::start();
    let cid = with_add_on_disk(&server);
    let file = code_files(&folder(&server)).remove(0);
    let whole = fs::read(&file).unwrap();
    let last = whole.len() - 1;
    let tampered = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let lies = [
        ("the last byte of the code", tampered(last)),
        ("a byte in the middle", tampered(whole.len() / 2)),
        ("a byte of the description", tampered(60)),
        ("a byte of the authentication", tampered(10)),
        ("a cut", whole[..last].to_vec()),
        ("more", [whole.as_slice(), b"x"].concat()),
        ("nothing", vec![]),
    ];
    for (what, bytes) in lies {
        fs::write(&file, bytes).unwrap();
        server = server.restart();
        adds(&server, &cid);
        assert_eq!(compilers(&server), OWN + 1.0, "{what}: compiled anew");
        assert_eq!((from(&server, "disk"), from(&server, "miss")), (0.0, 1.0), "{what}");
        assert_eq!(files_counted(&server, "rejected"), 1.0, "{what}");
        eventually("it is whole again", SOON, || {
            fs::read(&file).is_ok_and(|bytes| bytes.len() == whole.len())
        });
        server.logs(&["WARN", "changed or torn"]);
    }
    server = server.restart();
    adds(&server, &cid);
    assert_eq!((from(&server, "disk"), compilers(&server)), (1.0, OWN));
}

#[test]
fn a_file_moved_to_another_modules_name_is_not_taken() {
    let server = Server::start();
    let cid = with_add_on_disk(&server);
    let add = code_files(&folder(&server)).remove(0);
    let other = server.upload_guest("identity");
    eventually("both are on disk", SOON, || code_files(&folder(&server)).len() == 2);
    let identity = code_files(&folder(&server)).into_iter().find(|file| *file != add).unwrap();
    fs::copy(&add, &identity).unwrap();
    let server = server.restart();
    assert_eq!(server.run(&other, "i32", json!([7])).result(), &json!(7));
    assert_eq!(files_counted(&server, "rejected"), 1.0);
    adds(&server, &cid);
    assert_eq!(from(&server, "disk"), 1.0);
}

#[test]
fn no_tenant_is_served_another_ones_code() {
    let tokens = tempfile::NamedTempFile::new().unwrap();
    fs::write(tokens.path(), "ada ada-token-0123456789abcdef\neve eve-token-0123456789abcdef\n").unwrap();
    let server = Server::builder().env("WASM_API_TOKENS_FILE", tokens.path().to_str().unwrap()).start();
    let module = guest("add");
    let ask = |server: &Server, token: &str| -> Value {
        let authorization = format!("Bearer {token}");
        let put = server.request("PUT", "/v1/modules", &[("Authorization", &authorization)], &module);
        assert_eq!(put.status, 201, "{}", put.text());
        let request = json!({"target": {"cid": put.json()["cid"]}, "entry": "add", "args": [2, 3]});
        let headers = [("Authorization", authorization.as_str()), ("Prefer", "wait=60")];
        server.request("POST", "/v1/exec", &headers, request.to_string().as_bytes()).json()
    };
    assert_eq!(ask(&server, "ada-token-0123456789abcdef")["result"], 5);
    eventually("hers is on disk", SOON, || code_files(&folder(&server)).len() == 1);
    let server = server.restart();
    assert_eq!(ask(&server, "eve-token-0123456789abcdef")["result"], 5);
    assert_eq!(from(&server, "disk"), 0.0, "the same bytes, and not the same code");
    eventually("each has a file", SOON, || code_files(&folder(&server)).len() == 2);
    let files = code_files(&folder(&server));
    assert_ne!(files[0].parent(), files[1].parent());
    assert_eq!(ask(&server, "ada-token-0123456789abcdef")["result"], 5);
    assert_eq!(from(&server, "disk"), 1.0);
}

#[test]
fn what_the_folder_holds_is_the_services_alone() {
    let server = Server::start();
    let cid = with_add_on_disk(&server);
    let key = folder(&server).join("key");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&key), mode(&folder(&server))), (0o600, 0o700));
    assert_eq!(mode(&code_files(&folder(&server))[0]), 0o600);
    // A key that others could have read is no key.
    let before = fs::read(&key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let server = server.restart();
    assert_ne!(fs::read(&key).unwrap(), before);
    assert_eq!(mode(&key), 0o600);
    adds(&server, &cid);
    assert_eq!((from(&server, "disk"), from(&server, "miss")), (0.0, 1.0));
}

#[test]
fn code_of_another_build_is_removed_and_strangers_files_stay() {
    let server = Server::start();
    with_add_on_disk(&server);
    let own = code_files(&folder(&server))[0].ancestors().nth(2).unwrap().to_owned();
    let old = folder(&server).join("0123456789abcdef0123456789abcdef");
    fs::rename(&own, &old).unwrap();
    let notes = folder(&server).join("notes");
    fs::create_dir(&notes).unwrap();
    let server = server.restart();
    eventually("the other build's are gone", SOON, || !old.exists());
    assert!(notes.exists() && folder(&server).join("key").exists());
}

#[test]
fn a_folder_that_cannot_be_used_costs_compilations_and_no_run() {
    let server = Server::start();
    let cid = with_add_on_disk(&server);
    let code = folder(&server);
    fs::remove_dir_all(&code).unwrap();
    fs::write(&code, "in the way").unwrap();
    // Files are still asked for and written, where there is no folder any more.
    let other = server.upload(&marked(&guest("add"), 1));
    adds(&server, &other);
    eventually("it could not be kept", SOON, || files_counted(&server, "failed") >= 1.0);
    let server = server.restart();
    server.logs(&["WARN", "machine code is not kept on disk"]);
    adds(&server, &cid);
    assert_eq!(from(&server, "miss"), 1.0);
}

#[test]
fn preparing_is_one_compiler_at_a_time_that_gives_way() {
    let server = Server::start();
    // Each keeps a compiler busy for its whole budget.
    for number in 0..3 {
        let uploaded = server.put_module(&marked(&long_to_compile_module(), number));
        assert_eq!(uploaded.status, 201, "{}", uploaded.text());
    }
    // The 19th field of proc_pid_stat(5), counted behind the name.
    let nice = |stat: &str| -> i32 {
        stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap()
    };
    eventually("one prepares, behind all others", SOON, || {
        let compilers = server.processes("void-compiler");
        let stats: Vec<_> = compilers.iter().filter_map(|compiler| compiler.read("stat")).collect();
        stats.len() == 1 && nice(&String::from_utf8_lossy(&stats[0])) == 5
    });
    for _ in 0..200 {
        assert!(server.processes("void-compiler").len() <= 1);
    }
    let add = server.upload_guest("add");
    adds(&server, &add);
    assert_eq!(from(&server, "miss"), 1.0, "the run did not wait for those that are prepared");
}

#[test]
fn a_tenant_that_compiles_much_does_not_keep_others_from_compiling() {
    let tokens = tempfile::NamedTempFile::new().unwrap();
    fs::write(tokens.path(), "loud loud-token-0123456789abcdef\nquiet quiet-token-0123456789abcdef\n")
        .unwrap();
    let server = Server::builder().env("WASM_API_TOKENS_FILE", tokens.path().to_str().unwrap()).start();
    let ask = |who: &str, method: &str, path: &str, body: &[u8], wait: &str| {
        let authorization = format!("Bearer {who}-token-0123456789abcdef");
        server.request(method, path, &[("Authorization", &authorization), ("Prefer", wait)], body)
    };
    let run = |who: &str, module: &[u8], entry: &str, wait: &str| {
        let cid = ask(who, "PUT", "/v1/modules", module, "wait=0").json()["cid"].clone();
        let request = json!({"target": {"cid": cid}, "entry": entry, "args": [2, 3]}).to_string();
        ask(who, "POST", "/v1/exec", request.as_bytes(), wait).json()
    };
    let slow = slow_to_compile_module(512);
    let loud: Vec<String> = (0..12)
        .map(|number| run("loud", &marked(&slow, number), "run", "respond-async"))
        .map(|accepted| accepted["run_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(run("quiet", &guest("add"), "add", "wait=60")["result"], 5);
    let waiting = loud
        .iter()
        .filter(|id| {
            ask("loud", "GET", &format!("/v1/runs/{id}"), b"", "wait=0").json()["status"] == "accepted"
        })
        .count();
    assert!(waiting >= 3, "it came before most of the twelve, and {waiting} still wait");
}
