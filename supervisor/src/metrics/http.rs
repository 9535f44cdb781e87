//! The numbers of HTTP: requests by route and status, and bytes of bodies.

use std::sync::OnceLock;

use prometheus::{Error, IntCounter, IntCounterVec, IntGauge, Registry};

use super::families::{counter, counters, gauge};

/// The routes; an index into this is what [`Http::answered`] takes. The last one stands for every other path.
pub(crate) const ROUTES: [&str; 15] = [
    "exec", "run", "runs", "cancel", "upload", "module", "events", "policy", "metrics", "health", "ready",
    "openapi", "page", "asset", "other",
];

/// The statuses that this service answers with.
const STATUSES: [u16; 17] =
    [200, 201, 202, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 503];

/// The statuses whose series are there from the start, since alerts ask for them. The others of a route come with their
/// first answer: most pairs cannot be.
const FROM_THE_START: [u16; 4] = [200, 429, 500, 503];

pub(crate) struct Http {
    family: IntCounterVec,
    answers: Vec<OnceLock<IntCounter>>,
    request_bytes: IntCounter,
    response_bytes: IntCounter,
    connections: IntGauge,
    streams: IntGauge,
}

impl Http {
    pub(super) fn new(r: &Registry) -> Result<Http, Error> {
        let http = Http {
            family: counters(
                r,
                "void_wasm_http_requests_total",
                "HTTP requests answered, by route and status.",
                &["route", "status"],
            )?,
            answers: (0..ROUTES.len() * STATUSES.len()).map(|_| OnceLock::new()).collect(),
            request_bytes: counter(r, "void_wasm_http_request_bytes_total", "Bytes of request bodies read.")?,
            response_bytes: counter(r, "void_wasm_http_response_bytes_total", "Bytes of answers' bodies.")?,
            connections: gauge(r, "void_wasm_http_connections", "Open HTTP connections.")?,
            streams: gauge(r, "void_wasm_http_event_streams", "Clients that follow events.")?,
        };
        for route in 0..ROUTES.len() {
            FROM_THE_START.iter().for_each(|status| {
                http.series(route, *status);
            });
        }
        Ok(http)
    }

    fn series(&self, route: usize, status: u16) -> Option<&IntCounter> {
        let column = STATUSES.iter().position(|known| *known == status)?;
        let name = ROUTES.get(route)?;
        let cell = self.answers.get(route * STATUSES.len() + column)?;
        Some(cell.get_or_init(|| self.family.with_label_values(&[*name, status.to_string().as_str()])))
    }

    /// A request was answered.
    pub(crate) fn answered(&self, route: usize, status: u16, bytes: u64) {
        if let Some(series) = self.series(route, status) {
            series.inc();
        }
        self.response_bytes.inc_by(bytes);
    }

    /// Bytes of a request's body were read.
    pub(crate) fn read(&self, bytes: usize) {
        self.request_bytes.inc_by(bytes as u64);
    }

    /// Bytes of a streamed answer were sent.
    pub(crate) fn streamed(&self, bytes: usize) {
        self.response_bytes.inc_by(bytes as u64);
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> &IntGauge {
        &self.connections
    }

    /// Event streams.
    pub(crate) fn streams(&self) -> &IntGauge {
        &self.streams
    }
}
