//! What the server writes to its stdout and stderr, line by line, kept and awaited.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    open: usize,
}

/// The log of one server process. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Lines>, Condvar)>);

impl Log {
    /// Reads `pipe` to its end in a thread of its own.
    pub(crate) fn follow(&self, pipe: impl Read + Send + 'static) {
        self.0.0.lock().unwrap().open += 1;
        let log = self.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
                let text = without_colours(String::from_utf8_lossy(&line).trim_end());
                line.clear();
                log.0.0.lock().unwrap().lines.push(text);
                log.0.1.notify_all();
            }
            log.0.0.lock().unwrap().open -= 1;
            log.0.1.notify_all();
        });
    }

    /// The first line for which `matches` says yes, waited for until `within` is over or the process has closed its
    /// outputs.
    pub(crate) fn find(&self, within: Duration, matches: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + within;
        let mut lines = self.0.0.lock().unwrap();
        loop {
            if let Some(line) = lines.lines.iter().find(|line| matches(line)) {
                return Some(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if lines.open == 0 || left.is_zero() {
                return None;
            }
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits until nobody holds the outputs open any more. False when somebody still does.
    pub(crate) fn ended(&self, within: Duration) -> bool {
        let lines = self.0.0.lock().unwrap();
        self.0.1.wait_timeout_while(lines, within, |lines| lines.open > 0).unwrap().0.open == 0
    }

    pub(crate) fn text(&self) -> String {
        self.0.0.lock().unwrap().lines.join("\n")
    }
}

/// Removes terminal colour sequences, so that a test can look for plain text.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}
