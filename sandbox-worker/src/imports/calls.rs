//! One gateway call: sent, answered, and nothing else in between. What is not an answer ends the process.

use void_ipc::message::{Call, FromRun, Header, Refusal, Reply, ToRun};

use crate::line::{self, Line};

/// Where a run's gateway calls go, and what was fetched last.
#[derive(Debug)]
pub struct Calls {
    line: Line,
    /// The answer that `http_headers` and its like read.
    pub(super) kept: Option<Kept>,
}

/// An answer that was fetched.
#[derive(Debug)]
pub(super) struct Kept {
    /// Lines of `name: value`.
    pub(super) headers: Vec<u8>,
    /// The body.
    pub(super) body: Vec<u8>,
}

/// What the supervisor answered.
#[derive(Debug)]
pub enum Answer {
    /// Done.
    Done,
    /// The value, if there is one.
    Value(Option<Vec<u8>>),
    /// Whether there was something to delete.
    Deleted(bool),
    /// The status of what was fetched and is kept now.
    Fetched(u16),
    /// Not done.
    Refused(Refusal),
}

impl Calls {
    /// Over `line`.
    pub fn new(line: Line) -> Calls {
        Calls { line, kept: None }
    }

    /// Where they go.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Makes one call and waits for its answer. `mem_pages`: peak linear memory so far.
    ///
    /// Whoever does not answer a call, or answers another one, is no supervisor: then there is nobody to go on for.
    pub fn make(&mut self, call: Call, mem_pages: u32) -> Answer {
        let message = FromRun::Call { call, mem_pages };
        let answered = self.line.send(&message).and_then(|()| self.line.receive());
        let (FromRun::Call { call, .. }, Ok(Some(ToRun::Reply(reply)))) = (message, answered) else {
            void_seccomp::exit(1)
        };
        match (call, reply) {
            (_, Reply::Refused(refusal)) => Answer::Refused(refusal),
            (Call::Emit { .. } | Call::KvSet { .. } | Call::Sleep { .. }, Reply::Done) => Answer::Done,
            (Call::KvGet(_), Reply::Value(value)) => Answer::Value(value),
            (Call::KvDelete(_), Reply::Deleted(was_there)) => Answer::Deleted(was_there),
            (Call::Fetch(_), Reply::Fetched { status, headers, body_bytes }) => {
                match line::receive_parts(&self.line, body_bytes as usize) {
                    Ok(Some(body)) => {
                        self.kept = Some(Kept { headers: text(&headers), body });
                        Answer::Fetched(status)
                    }
                    Ok(None) => Answer::Refused(Refusal::TooLarge),
                    Err(_) => void_seccomp::exit(1),
                }
            }
            (
                Call::Emit { .. }
                | Call::Fetch(_)
                | Call::KvGet(_)
                | Call::KvSet { .. }
                | Call::KvDelete(_)
                // Nothing of it was sent, so nothing of it can be done.
                | Call::Unfit(_)
                | Call::Sleep { .. },
                Reply::Done | Reply::Value(_) | Reply::Deleted(_) | Reply::Fetched { .. },
            ) => void_seccomp::exit(1),
        }
    }
}

fn text(headers: &[Header]) -> Vec<u8> {
    let mut text = Vec::new();
    for Header { name, value } in headers {
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
        text.push(b'\n');
    }
    text
}
