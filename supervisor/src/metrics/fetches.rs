//! The numbers of guests' requests: how they ended, and bytes of bodies.

use prometheus::{Error, IntCounter, Registry};

use super::families::{counter, counters};
use super::words::words;

words! {
    /// How a guest's request ended.
    Fetched {
        /// A status of that class.
        Informational = "1xx",
        /// As above.
        Success = "2xx",
        /// As above; also redirects that name no place.
        Redirection = "3xx",
        /// As above.
        ClientError = "4xx",
        /// As above; also statuses that are in no class.
        ServerError = "5xx",
        /// After it was permitted policy refused an address, a redirect or its answer.
        Denied = "denied",
        /// No connection, or it broke off.
        Unreachable = "unreachable",
        /// The time ran out.
        TimedOut = "timed_out",
        /// More than may be read.
        TooLarge = "too_large",
        /// Its run ended first.
        GivenUp = "given_up",
    }
}

/// All of them.
pub(crate) struct Fetches {
    ends: Vec<IntCounter>,
    sent: IntCounter,
    received: IntCounter,
}

impl Fetches {
    pub(super) fn new(r: &Registry) -> Result<Fetches, Error> {
        let ends = counters(
            r,
            "void_wasm_fetches_total",
            "HTTP requests made for guests, by the class of the status or why there is none.",
            &["outcome"],
        )?;
        Ok(Fetches {
            ends: Fetched::ALL.iter().map(|end| ends.with_label_values(&[end.as_str()])).collect(),
            sent: counter(r, "void_wasm_fetch_sent_bytes_total", "Bytes of bodies sent for guests.")?,
            received: counter(
                r,
                "void_wasm_fetch_received_bytes_total",
                "Bytes of bodies received for guests, before decompression.",
            )?,
        })
    }

    /// A request was answered with this status, and the guest has all of it.
    pub(crate) fn answered(&self, status: u16) {
        self.ended(Some(match status / 100 {
            1 => Fetched::Informational,
            2 => Fetched::Success,
            3 => Fetched::Redirection,
            4 => Fetched::ClientError,
            _ => Fetched::ServerError,
        }));
    }

    /// A request ended; `None` where it was counted when it was answered.
    pub(crate) fn ended(&self, how: Option<Fetched>) {
        if let Some(counter) = how.and_then(|how| self.ends.get(how as usize)) {
            counter.inc();
        }
    }

    /// Bytes of a body were sent.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.inc_by(bytes as u64);
    }

    /// Bytes of a body have come.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.inc_by(bytes as u64);
    }
}
