//! `void-wasm events`: what happens, as it happens, one event a line.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::Value;

use crate::arguments::EventsArguments;
use crate::client::{Call, Client, encoded};
use crate::failure::Failure;
use crate::output::{hint, line};

/// How long a service that was there may be gone.
const GONE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
/// The longest line that is kept: an event holds at most 64 KiB of data, as JSON up to six times that.
const LINE_MAX_BYTES: usize = 1 << 20;

/// Prints events until interrupted, or until the service stays away.
pub(crate) async fn run(
    client: &mut Client,
    arguments: &EventsArguments,
    json: bool,
) -> Result<ExitCode, Failure> {
    let each = async |event: Event| line(&if json { event.data } else { in_words(&event.data) });
    follow(client, arguments, async || Ok(()), each).await
}

/// Hands each event on, over every break, until the service stays away. `opened` is called once, when the stream stands:
/// what happens from then on is not missed.
pub(crate) async fn follow(
    client: &mut Client,
    arguments: &EventsArguments,
    mut opened: impl AsyncFnMut() -> Result<(), Failure>,
    mut each: impl AsyncFnMut(Event) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let mut last = arguments.after.clone();
    let mut seen: Option<Instant> = None;
    loop {
        let outcome = listen(client, arguments, &mut last, &mut seen, &mut opened, &mut each).await;
        match outcome {
            Ok(()) => hint("the service closed the stream, connecting again"),
            Err(failure @ (Failure::Unreachable(_) | Failure::TryAgain(..))) => {
                if seen.is_none_or(|seen| seen.elapsed() > GONE) {
                    return Err(failure);
                }
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads one stream to its end. `seen` is when the service was last heard of.
async fn listen(
    client: &mut Client,
    arguments: &EventsArguments,
    last: &mut Option<String>,
    seen: &mut Option<Instant>,
    opened: &mut impl AsyncFnMut() -> Result<(), Failure>,
    each: &mut impl AsyncFnMut(Event) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut path = "/v1/events?".to_owned();
    if let Some(kind) = &arguments.kind {
        path.push_str(&format!("type={}&", encoded(kind)));
    }
    if let Some(run_id) = arguments.run_id {
        path.push_str(&format!("run_id={run_id}&"));
    }
    let mut body =
        client.events(Call::get(path.trim_end_matches(['?', '&'])), last.as_deref()).await?.into_body();
    if seen.replace(Instant::now()).is_none() {
        opened().await?;
    }
    let mut reader = Reader::default();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { break };
        *seen = Some(Instant::now());
        for event in reader.push(frame.data_ref().map_or(&[][..], |data| &data[..])) {
            let id = event.id.clone();
            each(event).await?;
            if id.is_some() {
                *last = id;
            }
        }
    }
    Ok(())
}

/// One event of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    id: Option<String>,
    /// A CloudEvent in JSON.
    pub(crate) data: String,
}

/// Server-Sent Events, as the HTML standard has them, of which a service uses `id` and `data`.
#[derive(Default)]
struct Reader {
    line: Vec<u8>,
    event: Event,
}

impl Reader {
    fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                if self.line.len() < LINE_MAX_BYTES {
                    self.line.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.line).trim_end_matches('\r').to_owned();
            self.line.clear();
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    let event = std::mem::take(&mut self.event);
                    if !event.data.is_empty() {
                        events.push(event);
                    }
                }
                "id" => self.event.id = Some(value.to_owned()),
                "data" => {
                    if !self.event.data.is_empty() {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                }
                _ => {}
            }
        }
        events
    }
}

/// Time, type and subject, then the data as it is; the whole event where it is none that we know.
fn in_words(data: &str) -> String {
    #[derive(Deserialize)]
    struct CloudEvent {
        #[serde(rename = "type")]
        kind: String,
        time: Option<String>,
        subject: Option<String>,
        data: Option<Value>,
    }
    let Ok(event) = serde_json::from_str::<CloudEvent>(data) else { return data.to_owned() };
    let parts = [event.time, Some(event.kind), event.subject, event.data.map(|data| data.to_string())];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::{Event, Reader, in_words};

    #[test]
    fn events_are_read_however_the_bytes_are_cut() {
        let text = ": hello\n\nid: 7\nevent: x\ndata: {\"a\":1}\n\ndata:b\r\ndata: c\r\n\r\nid: 9\n\ndata: cut off\n";
        let wanted = [
            Event { id: Some("7".into()), data: "{\"a\":1}".into() },
            Event { id: None, data: "b\nc".into() },
        ];
        for step in 1..text.len() {
            let mut reader = Reader::default();
            let events: Vec<Event> =
                text.as_bytes().chunks(step).flat_map(|bytes| reader.push(bytes)).collect();
            assert_eq!(events, wanted, "in pieces of {step}");
        }
    }

    #[test]
    fn an_event_in_words_is_one_line() {
        let data = r#"{"type":"wasm.exec.finished","time":"T","subject":"wasm_1","data":{"mode":"live"}}"#;
        assert_eq!(in_words(data), r#"T  wasm.exec.finished  wasm_1  {"mode":"live"}"#);
        assert_eq!(in_words("else"), "else");
    }
}
