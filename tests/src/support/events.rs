//! A stream of Server-Sent Events, read one CloudEvent at a time.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::server::Server;

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// What `Last-Event-ID` goes on from.
    pub id: u64,
    /// The CloudEvent.
    pub data: Value,
}

impl Event {
    /// The CloudEvent's type.
    pub fn kind(&self) -> &str {
        self.data["type"].as_str().unwrap_or_default()
    }

    /// The run that it is about.
    pub fn run_id(&self) -> &str {
        self.data["subject"].as_str().unwrap_or_default()
    }
}

/// A stream that is open.
pub struct Events {
    lines: BufReader<Chunks>,
    line: String,
    id: Option<u64>,
    data: Option<Value>,
}

impl Events {
    /// Opens `/v1/events` with this query (with its `?`, or empty), after the event `last`.
    #[track_caller]
    pub fn follow(server: &Server, query: &str, last: Option<u64>) -> Self {
        let mut stream = TcpStream::connect(server.address()).expect("a connection");
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let head = format!("GET /v1/events{query} HTTP/1.1\r\nHost: test\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).expect("written");
        let mut stream = BufReader::new(stream);
        let mut status = String::new();
        stream.read_line(&mut status).expect("an answer");
        assert!(status.contains(" 200 "), "{status}");
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).expect("a header");
            if line.trim().is_empty() {
                break;
            }
        }
        let lines = BufReader::new(Chunks { stream, left: 0, ended: false });
        Self { lines, line: String::new(), id: None, data: None }
    }

    /// The id that a browser would give if the stream broke now; asked before the first event.
    pub fn begins_after(&mut self) -> u64 {
        let socket = self.lines.get_ref().stream.get_ref();
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).expect("a greeting");
            if let Some(id) = line.strip_prefix("id: ") {
                return id.trim_end().parse().expect("a number");
            }
        }
    }

    /// The next event; `None` where none comes within `within`, or the stream has ended.
    pub fn next(&mut self, within: Duration) -> Option<Event> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let socket = self.lines.get_ref().stream.get_ref();
            socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("a timeout");
            match self.lines.read_line(&mut self.line) {
                Ok(0) => return None,
                Ok(_) if self.line.ends_with('\n') => {}
                Ok(_) => return None,
                // What was read of the line stays.
                Err(_) => return None,
            }
            let line = std::mem::take(&mut self.line);
            let line = line.trim_end();
            if let Some(id) = line.strip_prefix("id: ") {
                self.id = id.parse().ok();
            } else if let Some(data) = line.strip_prefix("data: ") {
                self.data = Some(serde_json::from_str(data).expect("an event is JSON in one line"));
            } else if line.is_empty()
                && let (Some(id), Some(data)) = (self.id.take(), self.data.take())
            {
                assert_eq!(data["id"], id.to_string(), "{data}");
                return Some(Event { id, data });
            }
            if Instant::now() >= deadline {
                return None;
            }
        }
    }

    /// Whether the server has ended the stream, waited for until `within` is over. What still comes is thrown away.
    pub fn ends(mut self, within: Duration) -> bool {
        let socket = self.lines.get_ref().stream.get_ref();
        socket.set_read_timeout(Some(within)).expect("a timeout");
        match io::copy(&mut self.lines, &mut io::sink()) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// The body of an answer in chunks.
struct Chunks {
    stream: BufReader<TcpStream>,
    left: usize,
    ended: bool,
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            let mut line = String::new();
            // The line end behind the last chunk comes first.
            while line.trim().is_empty() {
                line.clear();
                // Wait without taking anything, so that a timeout loses nothing.
                if self.stream.fill_buf()?.is_empty() {
                    self.ended = true;
                    return Ok(0);
                }
                self.stream.read_line(&mut line)?;
            }
            self.left = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            self.ended = self.left == 0;
        }
        if self.ended {
            return Ok(0);
        }
        let most = self.left.min(into.len());
        let read = self.stream.read(&mut into[..most])?;
        self.left -= read;
        Ok(read)
    }
}
