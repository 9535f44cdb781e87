//! A run as a test sees it: asked for, awaited, and its record questioned.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::http::Response;
use super::server::Server;

/// No run of a test takes longer, compiling included.
const LONGEST_RUN: Duration = Duration::from_secs(60);

/// A request for a run, not yet sent.
#[must_use = "nothing is sent before `wait`, `start` or `send`"]
pub struct Exec<'a> {
    server: &'a Server,
    body: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl<'a> Exec<'a> {
    pub(crate) fn new(server: &'a Server, body: Vec<u8>) -> Self {
        Self { server, body, headers: vec![("Content-Type".into(), "application/json".into())] }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends it as it is and returns the answer, whatever it is.
    #[track_caller]
    pub fn send(self) -> Response {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        self.server.request("POST", "/v1/exec", &headers, &self.body)
    }

    /// Sends it, does not wait for the run, and returns the run's id.
    #[track_caller]
    pub fn start(self) -> String {
        let response = self.send();
        assert_eq!(response.status, 202, "not accepted: {}", response.text());
        response.json()["run_id"].as_str().expect("an accepted run has an id").to_owned()
    }

    /// Sends it and waits for the run's end.
    #[track_caller]
    pub fn wait(self) -> Run {
        let server = self.server;
        let response = self.header("Prefer", "wait=60").send();
        match response.status {
            200 => Run::new(&response),
            202 => server.wait_for(response.json()["run_id"].as_str().expect("an id")),
            _ => panic!("not accepted: status {}: {}", response.status, response.text()),
        }
    }
}

/// The record of a run.
#[derive(Debug, Clone)]
pub struct Run {
    record: Value,
    result: String,
}

#[derive(Deserialize)]
struct WithResult {
    result: Option<Box<RawValue>>,
}

impl Run {
    #[track_caller]
    pub(crate) fn new(response: &Response) -> Self {
        let record = response.json();
        assert!(record["run_id"].is_string() && record["status"].is_string(), "not a run: {record}");
        let with: WithResult = serde_json::from_slice(&response.body).expect("a record is an object");
        let result = with.result.map_or("null".to_owned(), |raw| raw.get().to_owned());
        Self { record, result }
    }

    /// The whole record.
    pub fn record(&self) -> &Value {
        &self.record
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.record["run_id"].as_str().unwrap_or_default()
    }

    /// Its status.
    pub fn status(&self) -> &str {
        self.record["status"].as_str().unwrap_or_default()
    }

    /// Why it ended in error; empty when it did not.
    pub fn reason(&self) -> &str {
        self.record["reason"].as_str().unwrap_or_default()
    }

    /// The sentence that tells the user why.
    pub fn error(&self) -> &str {
        self.record["error"].as_str().unwrap_or_default()
    }

    /// One of its usage figures: `cpu_ms`, `wall_ms`, `wait_ms`, `mem_pages`, `syscalls`.
    #[track_caller]
    pub fn usage(&self, figure: &str) -> u64 {
        self.record["usage"][figure].as_u64().unwrap_or_else(|| panic!("no usage.{figure}: {}", self.record))
    }

    /// Checks that it finished, and returns its result.
    #[track_caller]
    pub fn result(&self) -> &Value {
        assert_eq!(self.status(), "finished", "{}", self.record);
        &self.record["result"]
    }

    /// Checks that it finished, and returns its result as the service wrote it: a number keeps every digit.
    #[track_caller]
    pub fn result_text(&self) -> &str {
        self.result();
        &self.result
    }

    /// Checks that it ended in error with this reason and one sentence to explain it, and returns the sentence.
    #[track_caller]
    pub fn failed_with(&self, reason: &str) -> &str {
        assert_eq!(self.status(), "error", "{}", self.record);
        assert_eq!(self.reason(), reason, "{}", self.record);
        assert!(self.record["result"].is_null(), "an error has no result: {}", self.record);
        assert!(!self.error().is_empty(), "an error is explained: {}", self.record);
        self.error()
    }
}

impl Server {
    /// Runs an entry without arguments once on each lane (processor), so that each has a zygote of the module.
    #[track_caller]
    pub fn run_on_each_lane(&self, cid: &str, entry: &str) {
        let lanes = std::thread::available_parallelism().map_or(1, usize::from);
        // A connection goes to the lane that has the fewest: as long as these are open, each has its own.
        let mut clients: Vec<_> = (0..lanes).map(|_| self.connect()).collect();
        let body = serde_json::json!({"target": {"cid": cid}, "entry": entry}).to_string();
        for client in &mut clients {
            let headers = [("Content-Type", "application/json"), ("Prefer", "wait=60")];
            let answer = client.request("POST", "/v1/exec", &headers, body.as_bytes()).expect("an answer");
            Run::new(&answer).result();
        }
    }

    /// The record of a run as it is now.
    #[track_caller]
    pub fn look_up(&self, run_id: &str) -> Run {
        let response = self.get(&format!("/v1/runs/{run_id}"));
        assert_eq!(response.status, 200, "{}", response.text());
        Run::new(&response)
    }

    /// The list of runs, newest first, page by page until there are at least `most`.
    #[track_caller]
    pub fn list(&self, most: usize) -> Vec<Value> {
        let mut runs = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/v1/runs?limit=500{cursor}")).json();
            runs.extend(page["runs"].as_array().expect("a list").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) if runs.len() < most => cursor = format!("&cursor={next}"),
                _ => return runs,
            }
        }
    }

    /// Waits for the end of a run.
    #[track_caller]
    pub fn wait_for(&self, run_id: &str) -> Run {
        let deadline = Instant::now() + LONGEST_RUN;
        loop {
            let response = self.get(&format!("/v1/runs/{run_id}?wait=30"));
            assert_eq!(response.status, 200, "{}", response.text());
            let run = Run::new(&response);
            if !matches!(run.status(), "accepted" | "running") {
                return run;
            }
            assert!(Instant::now() < deadline, "does not end: {}", run.record());
        }
    }
}
