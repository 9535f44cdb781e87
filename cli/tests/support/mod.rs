//! A service that answers as it was told, and the command run against it.

#![allow(clippy::unwrap_used, reason = "a test that meets what it did not expect should stop there")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub const RUN: &str = "wasm_01aryz6s41zzzzzzzzzzzzzzzz";
pub const CID: &str = "bafkreibhmtmv24yn2zu7udv53bwwvgrylzhbep2e52p72tly7wjiufzpom";

/// One answer of the service.
pub enum Reply {
    /// Status, headers, body.
    Json(u16, &'static str, String),
    /// The connection is closed without an answer.
    BreakOff,
    /// No answer, as long as the test lasts.
    Hang,
}

/// What the service was sent.
#[derive(Debug)]
pub struct Received {
    pub line: String,
    pub head: String,
    pub body: String,
}

/// A service on a port that the kernel picked; it gives its replies in order, whatever it is asked.
pub struct Service {
    pub url: String,
    received: Receiver<Received>,
}

impl Service {
    pub fn replying(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let replies = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let (sender, received) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (replies, sender) = (Arc::clone(&replies), sender.clone());
                let stream = stream.unwrap();
                thread::spawn(move || serve(stream.try_clone().unwrap(), stream, &replies, &sender));
            }
        });
        Self { url, received }
    }

    /// The next request that the service was sent.
    pub fn next(&self) -> Received {
        self.received.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    /// Whether all requests have been looked at.
    pub fn is_idle(&self) -> bool {
        self.received.try_recv().is_err()
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = void_wasm(line);
        command.env("VOID_WASM_SERVER", &self.url);
        command
    }

    /// Runs the command to its end: exit code, stdout, stderr.
    pub fn run(&self, line: &str) -> (i32, String, String) {
        finish(self.command(line))
    }
}

/// The command with its words, and none of the caller's settings.
pub fn void_wasm(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_void-wasm"));
    command.args(line.split_whitespace()).stdin(Stdio::null());
    command.env_remove("VOID_WASM_SERVER").env_remove("VOID_WASM_TOKEN").env("LC_ALL", "C.UTF-8");
    command
}

pub fn finish(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

pub fn serve(
    input: impl Read,
    mut output: impl Write,
    replies: &Mutex<VecDeque<Reply>>,
    sender: &Sender<Received>,
) {
    let mut input = BufReader::new(input);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if input.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        input.read_exact(&mut body).unwrap();
        let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        // The test may have ended, having seen enough.
        let _ = sender.send(Received { line, head, body: String::from_utf8_lossy(&body).into_owned() });
        let reply = replies.lock().unwrap().pop_front();
        match reply {
            Some(Reply::Json(status, headers, body)) => {
                let answer =
                    format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
                if output.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Some(Reply::Hang) => thread::sleep(Duration::from_secs(60)),
            Some(Reply::BreakOff) | None => return,
        }
    }
}

pub fn ok(body: impl Into<String>) -> Reply {
    Reply::Json(200, "", body.into())
}

pub fn accepted(mode: &str) -> Reply {
    Reply::Json(202, "", format!(r#"{{"run_id":"{RUN}","accepted":true,"mode":"{mode}"}}"#))
}

/// A record; `rest` is added to the fields that are always there.
pub fn record(status: &str, rest: &str) -> String {
    format!(
        r#"{{"run_id":"{RUN}","status":"{status}","mode":"live","usage":{{"cpu_ms":1,"wall_ms":2,"wait_ms":0,"mem_pages":1,"syscalls":0}},"target":{{"cid":"{CID}"}},"entry":"add","labels":{{}},"created_at":"2025-01-31T12:34:56.789Z",{rest}}}"#
    )
}

pub fn problem(status: u16, code: &str, headers: &'static str) -> Reply {
    let body = format!(
        r#"{{"type":"urn:void-wasm:problem:{code}","title":"t","status":{status},"code":"{code}","detail":"do this","error":"do this"}}"#
    );
    Reply::Json(status, headers, body)
}
