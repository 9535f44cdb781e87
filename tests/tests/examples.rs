//! The example guests: what is committed is what its source makes, and it does what it says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use void_tests::{Events, Server, build_example, examples, sha256_of};

const LANGUAGES: [&str; 3] = ["c", "assemblyscript", "rust"];
const SOON: Duration = Duration::from_secs(10);

fn committed(language: &str) -> Vec<u8> {
    let path = examples().join(format!("guest-{language}/guest-{language}.wasm"));
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_digests_are_those_of_the_committed_modules() {
    let sums = fs::read_to_string(examples().join("SHA256SUMS")).unwrap();
    let mut sums: Vec<&str> = sums.lines().collect();
    let mut found =
        LANGUAGES.map(|l| format!("{}  guest-{l}/guest-{l}.wasm", sha256_of(&committed(l)))).to_vec();
    sums.sort_unstable();
    found.sort_unstable();
    assert_eq!(sums, found, "write SHA256SUMS with examples/build.sh");
}

fn is_rebuilt(language: &str) {
    let Some(built) = build_example(language) else { return };
    let committed = committed(language);
    assert!(built == committed, "{language}: the source makes another module: run examples/build.sh");
}

#[test]
fn the_source_in_c_makes_the_committed_module() {
    is_rebuilt("c");
}

#[test]
fn the_source_in_assemblyscript_makes_the_committed_module() {
    is_rebuilt("assemblyscript");
}

#[test]
fn the_source_in_rust_makes_the_committed_module() {
    is_rebuilt("rust");
}

/// An HTTP server that has one text, and remembers the requests' heads.
struct Greeter {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Greeter {
    fn start(text: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head: Vec<String> =
                    lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                seen.lock().unwrap().push(head.join("\n"));
                let length = text.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
                     Connection: close\r\n\r\n{text}"
                );
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { port, heads }
    }
}

/// FNV-1a, 32 bits, as its authors define it.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The next event of a guest: its name, and its data as text.
fn emitted(events: &mut Events, run_id: &str) -> (String, String) {
    let event = events.next(SOON).expect("an event of the guest");
    assert_eq!((event.kind(), event.run_id()), ("wasm.guest.emit", run_id), "{:?}", event.data);
    let text = |field: &str| event.data["data"][field].as_str().unwrap_or_default().to_owned();
    (text("event"), text("data"))
}

#[test]
fn each_example_makes_every_call_and_they_see_each_others_values() {
    // More than a guest's buffer, and text beyond ASCII.
    let text: &'static str =
        Box::leak(format!("grüße, guest \u{1f44b}\n{}", "0123456789\n".repeat(400)).into_boxed_str());
    let greeting = text.lines().next().unwrap();
    let greeter = Greeter::start(text);
    let server = Server::builder()
        .env("WASM_CAPS", "emit,http,kv")
        .env("WASM_HTTP_ALLOWLIST", &format!("127.0.0.1:{}", greeter.port))
        .start();
    let cids = LANGUAGES.map(|language| server.upload(&committed(language)));
    let mut events = Events::follow(&server, "?type=wasm.guest.emit", None);

    for (number, (language, cid)) in LANGUAGES.iter().zip(&cids).enumerate() {
        // Each goes on counting where the one before it stopped: the key-value store is the tenant's.
        let visits = number + 1;
        let run = server.run(cid, "run(i32)->i32", json!([greeter.port]));
        assert_eq!(run.result(), &json!(visits), "{language}: {}", run.record());
        // kv.get, kv.set, http.fetch, kv.set, kv.set, kv.delete, emit; reading the answer is none.
        assert_eq!(run.usage("syscalls"), 7, "{language}: {}", run.record());
        let (name, data) = emitted(&mut events, run.id());
        assert_eq!(name, "example.visited");
        let expected = json!({
            "from": language, "visits": visits, "status": 200, "type": "text/plain; charset=utf-8",
            "bytes": text.len(), "fnv1a": fnv1a(text.as_bytes()),
        });
        assert_eq!(serde_json::from_str::<Value>(&data).expect(&data), expected);

        let heads = greeter.heads.lock().unwrap();
        assert_eq!(heads.len(), visits, "one request for each run");
        assert!(heads[number].starts_with("GET /greeting HTTP/1.1\n"), "{}", heads[number]);
        assert!(heads[number].to_ascii_lowercase().contains("\naccept: text/plain"), "{}", heads[number]);
    }

    // What one keeps, another one finds.
    for cid in &cids {
        let run = server.run(cid, "recall()->i32", json!([]));
        assert_eq!(run.result(), &json!(greeting.len()));
        assert_eq!(emitted(&mut events, run.id()), ("example.recalled".to_owned(), greeting.to_owned()));
    }
    assert_eq!(server.run(&cids[0], "forget()->i32", json!([])).result(), &json!(2));
    assert_eq!(server.run(&cids[1], "forget()->i32", json!([])).result(), &json!(0));
    // VOID_NOT_FOUND.
    assert_eq!(server.run(&cids[2], "recall()->i32", json!([])).result(), &json!(-5));
}

#[test]
fn an_example_that_is_denied_a_call_returns_the_code() {
    // The default grants emit alone.
    let server = Server::start();
    for language in LANGUAGES {
        let cid = server.upload(&committed(language));
        // kv_get is the first call: VOID_DENIED.
        assert_eq!(server.run(&cid, "run", json!([1])).result(), &json!(-1), "{language}");
        assert_eq!(server.run(&cid, "forget", json!([])).result(), &json!(-1), "{language}");
    }
}

#[test]
fn an_example_may_fetch_only_from_hosts_that_are_allowed() {
    let greeter = Greeter::start("not for you\n");
    // The allowlist is empty.
    let server = Server::builder().env("WASM_CAPS", "emit,http,kv").start();
    for language in LANGUAGES {
        let cid = server.upload(&committed(language));
        assert_eq!(server.run(&cid, "run", json!([greeter.port])).result(), &json!(-1), "{language}");
    }
    assert!(greeter.heads.lock().unwrap().is_empty(), "nobody connected");
}
