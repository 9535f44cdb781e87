//! `cargo xtask demo`: from a clone to an executed module, with the request to repeat it.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::build::{self, Profile};
use crate::cargo::root;
use crate::http::{Address, Answer};
use crate::server::Server;

/// How long the server may take until a run would be taken: it proves every layer of isolation first.
const START: Duration = Duration::from_secs(60);
const GENE: &str = "add";

/// Builds, serves and shows one run; with `once` it stops then, otherwise it serves until Ctrl-C.
pub(crate) fn run(once: bool) -> Result<(), String> {
    let address = free_address()?;
    build::run(Profile::Release)?;
    let interrupted = watch_signals()?;
    let manifests = root().join("examples/chimera-output");
    let cid = cid_of(&manifests, GENE)?;

    let state = StateDir::new()?;
    let settings = [
        ("WASM_EXEC_ENABLED", "1".to_owned()),
        ("WASM_EXEC_CANARY", "1".to_owned()),
        ("WASM_LISTEN", address.to_string()),
        ("WASM_STATE_DIR", state.0.display().to_string()),
        ("FNPM_MANIFEST_DIRS", manifests.display().to_string()),
        ("FNPM_CACHE_DIR", state.0.join("modules").display().to_string()),
    ];
    let mut server = Server::start(&build::folder(Profile::Release)?.join("void-supervisor"), &settings)?;
    wait_until_ready(&address, &mut server, &interrupted)?;
    if !once {
        println!(
            "\nServing on {address} until Ctrl-C; the state is in {} and goes with it.",
            state.0.display()
        );
    }
    let result = execute(&address, &cid);
    if once {
        let stopped = server.stop();
        return result.and(stopped);
    }
    result?;
    server.show();
    while !interrupted.load(Ordering::Relaxed) {
        if let Some(status) = server.ended()? {
            return Err(format!("the server ended by itself with {status}; its last lines are above"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    eprintln!("\nStopping.");
    server.stop()
}

/// The address to listen on, known to be free; looked at before the build, which takes minutes the first time.
fn free_address() -> Result<Address, String> {
    let wanted = env::var("WASM_LISTEN").unwrap_or_else(|_| "127.0.0.1:3456".to_owned());
    Address::parse(&wanted).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => format!(
            "{wanted} is taken by another program: stop that, or choose another port: WASM_LISTEN=127.0.0.1:3457 cargo xtask demo"
        ),
        _ => format!("WASM_LISTEN={wanted} cannot be listened on ({error}): give host:port or unix:/path"),
    })
}

/// Set by Ctrl-C and its like.
pub(crate) fn watch_signals() -> Result<Arc<AtomicBool>, String> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| format!("signals cannot be watched: {error}"))?;
    }
    Ok(interrupted)
}

fn wait_until_ready(address: &Address, server: &mut Server, interrupted: &AtomicBool) -> Result<(), String> {
    let start = Instant::now();
    while start.elapsed() < START {
        if interrupted.load(Ordering::Relaxed) {
            return Err("interrupted before the server was ready".to_owned());
        }
        if let Some(status) = server.ended()? {
            return Err(format!(
                "the server did not start ({status}); its last lines:\n{}",
                server.last_lines()
            ));
        }
        if address.request("GET", "/readyz", &[], "").is_ok_and(|answer| answer.status == 200) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!(
        "the server was not ready within {} s; its last lines:\n{}",
        START.as_secs(),
        server.last_lines()
    ))
}

/// Executes add(2, 3), shows request and record, and succeeds if the result is 5.
fn execute(address: &Address, cid: &str) -> Result<(), String> {
    let body = format!(r#"{{"target":{{"cid":"{cid}"}},"entry":"add(i32,i32)->i32","args":[2,3]}}"#);
    let (curl, url) = address.curl();
    println!("\n$ {curl} -H 'prefer: wait=10' --json '{body}' {url}/v1/exec");
    let headers = [("content-type", "application/json"), ("prefer", "wait=10")];
    let Answer { status, body } = address
        .request("POST", "/v1/exec", &headers, &body)
        .map_err(|error| format!("the request was not answered: {error}"))?;
    println!("{}", body.trim_end());
    let plain: String = body.chars().filter(|letter| !letter.is_whitespace()).collect();
    let is_five = plain.contains(r#""result":5,"#) || plain.contains(r#""result":5}"#);
    if status == 200 && is_five && plain.contains(r#""status":"finished""#) {
        Ok(())
    } else {
        Err(format!(
            "the run was answered with {status} and did not finish with 5: the record above says why"
        ))
    }
}

/// Finds a gene's CID in the example's manifest, which is our own file: a look at its text is enough.
fn cid_of(manifests: &Path, gene: &str) -> Result<String, String> {
    let path = manifests.join("manifest.json");
    let text =
        fs::read_to_string(&path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    let plain: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    plain
        .split('{')
        .find(|object| object.contains(&format!(r#""name":"{gene}""#)))
        .and_then(|object| object.split_once(r#""cid":""#))
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(cid, _)| cid.to_owned())
        .ok_or_else(|| format!("{}: has no gene {gene:?} with a cid", path.display()))
}

/// A state directory that goes with the demo.
struct StateDir(PathBuf);

impl StateDir {
    fn new() -> Result<Self, String> {
        let path = env::temp_dir().join(format!("void-wasm-demo-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: cannot be made: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("xtask: {}: cannot be removed: {error}", self.0.display());
        }
    }
}
