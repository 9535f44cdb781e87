//! The load: a few threads, each with some of the connections, each connection one request after the other.
//!
//! A closed loop over HTTP/1.1 that writes the same prepared bytes and reads just enough of each answer to know that it
//! is whole and right. What must not enter: knowledge of who answers.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};

/// Digits of a request's own number.
pub(crate) const DIGITS: usize = 16;

/// What is asked of whom, and what a right answer holds.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Who answers.
    pub(crate) address: SocketAddr,
    /// The whole request.
    pub(crate) request: Vec<u8>,
    /// Where in it stand the digits of a number that each request has for itself.
    pub(crate) number_at: Option<usize>,
    /// What the body of a right answer contains.
    pub(crate) contains: &'static str,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// From the first byte written to the last byte read, nanoseconds, in no order.
    pub(crate) latencies: Vec<u64>,
    /// How long the load lasted.
    pub(crate) took: Duration,
}

impl Seen {
    /// Adds another slice of the same load.
    pub(crate) fn add(&mut self, other: Seen) {
        self.latencies.extend(other.latencies);
        self.took += other.took;
    }

    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// The latency below which this share of the answers lies, microseconds. Sorts.
    pub(crate) fn quantile(&mut self, share: f64) -> f64 {
        self.latencies.sort_unstable();
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies.get(at).map_or(0.0, |nanoseconds| *nanoseconds as f64 / 1000.0)
    }
}

/// Keeps `connections` busy for `time`.
///
/// # Errors
/// The first connection that failed, or the first answer that was wrong, with its text.
pub(crate) fn apply(target: &Target, connections: usize, time: Duration) -> Result<Seen> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(connections);
    let begin = Instant::now();
    let until = begin + time;
    let workers: Vec<_> = (0..threads)
        .map(|index| {
            let share = connections / threads + usize::from(index < connections % threads);
            let target = target.clone();
            thread::spawn(move || drive(&target, share, until))
        })
        .collect();
    let mut seen = Seen::default();
    for worker in workers {
        let latencies = worker.join().map_err(|_| Error::other("a load thread panicked"))??;
        seen.latencies.extend(latencies);
    }
    seen.took = begin.elapsed();
    Ok(seen)
}

fn drive(target: &Target, connections: usize, until: Instant) -> Result<Vec<u64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let tasks: Vec<_> =
            (0..connections).map(|_| spawn_local(connection(target.clone(), until))).collect();
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.map_err(Error::other)??);
        }
        Ok(all)
    })
}

/// A number that no request had before.
fn number(request: &mut [u8], at: usize) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let digits = format!("{:0width$}", NEXT.fetch_add(1, Ordering::Relaxed), width = DIGITS);
    request[at..at + DIGITS].copy_from_slice(&digits.as_bytes()[..DIGITS]);
}

async fn connection(mut target: Target, until: Instant) -> Result<Vec<u64>> {
    let mut stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(16 << 10);
    let mut latencies = Vec::with_capacity(100_000);
    let mut now = Instant::now();
    while now < until {
        if let Some(at) = target.number_at {
            number(&mut target.request, at);
        }
        stream.write_all(&target.request).await?;
        buffer.clear();
        let body = answer(&mut stream, &mut buffer).await?;
        let right = buffer.starts_with(b"HTTP/1.1 200 ") && holds(&buffer[body..], target.contains);
        if !right {
            return Err(Error::other(format!("a wrong answer: {}", String::from_utf8_lossy(&buffer))));
        }
        let after = Instant::now();
        latencies.push(u64::try_from((after - now).as_nanos()).unwrap_or(u64::MAX));
        now = after;
    }
    Ok(latencies)
}

/// Reads one whole answer: where its body begins.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<usize> {
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        let Some(head) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let length = content_length(&buffer[..head])
            .ok_or_else(|| Error::new(ErrorKind::InvalidData, "an answer without a content-length"))?;
        if buffer.len() >= head + 4 + length {
            return Ok(head + 4);
        }
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    head.split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
}

fn holds(body: &[u8], wanted: &str) -> bool {
    body.windows(wanted.len()).any(|bytes| bytes == wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_answers() {
        let mut seen =
            Seen { latencies: (0..=100).rev().map(|n| n * 1000).collect(), took: Duration::from_secs(1) };
        assert_eq!((seen.quantile(0.5), seen.quantile(0.99), seen.rate()), (50.0, 99.0, 101.0));
        assert_eq!(Seen::default().quantile(0.5), 0.0);
    }

    #[test]
    fn the_length_is_found_whatever_its_case() {
        assert_eq!(content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\na: b"), Some(12));
        assert_eq!(content_length(b"HTTP/1.1 200 OK"), None);
    }
}
