//! Runs in the background from several connections at once, each outcome counted, until told to stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use super::http::Client;
use super::server::Server;

/// Load on a server. Ends when it is dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    outcomes: Arc<Mutex<BTreeMap<String, usize>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts one thread for each connection. `request(thread, turn)` makes the body of each turn's request. A turn's
    /// outcome is the status of its run, `error:REASON` for one that failed, or what went wrong with the request.
    pub fn start(
        server: &Server,
        connections: usize,
        request: impl Fn(usize, usize) -> Value + Send + Sync + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicUsize::new(0));
        let outcomes = Arc::new(Mutex::new(BTreeMap::new()));
        let request = Arc::new(request);
        let address = server.address();
        let threads = (0..connections)
            .map(|thread| {
                let (stop, done, outcomes) = (stop.clone(), done.clone(), outcomes.clone());
                let request = request.clone();
                std::thread::spawn(move || {
                    let mut client = None;
                    let mut turn = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let body = request(thread, turn).to_string();
                        turn += 1;
                        let outcome = one_turn(&mut client, || Client::connect(address), body.as_bytes());
                        *outcomes.lock().unwrap().entry(outcome).or_insert(0) += 1;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self { stop, done, outcomes, threads }
    }

    /// Turns completed so far.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Stops, waits for what is under way, and tells how often each outcome came.
    pub fn finish(mut self) -> BTreeMap<String, usize> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a load thread does not panic");
        }
        let outcomes = self.outcomes.lock().unwrap();
        outcomes.clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn one_turn(
    client: &mut Option<Client>,
    connect: impl Fn() -> std::io::Result<Client>,
    body: &[u8],
) -> String {
    let mut connection = match client.take().map_or_else(connect, Ok) {
        Ok(connection) => connection,
        Err(e) => return format!("connect: {}", e.kind()),
    };
    let headers = [("Content-Type", "application/json"), ("Prefer", "wait=60")];
    let response = match connection.request("POST", "/v1/exec", &headers, body) {
        Ok(response) => response,
        Err(e) => return format!("request: {}", e.kind()),
    };
    *client = Some(connection);
    if response.status != 200 {
        return format!("http: {} {}", response.status, response.text());
    }
    let record = response.json();
    match (record["status"].as_str(), record["reason"].as_str()) {
        (Some("error"), Some(reason)) => format!("error:{reason}"),
        (Some(status), _) => status.to_owned(),
        _ => format!("not a record: {record}"),
    }
}
