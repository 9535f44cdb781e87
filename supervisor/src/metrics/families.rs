//! Making families of series, and grids of counters that are reached by two indices.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Error, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Milliseconds, with their fraction.
pub(super) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Registers a family.
pub(super) fn known<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// Counters that differ by labels.
pub(super) fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, Error> {
    known(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

/// One counter.
pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, Error> {
    known(registry, IntCounter::new(name, help)?)
}

/// Gauges that differ by labels.
pub(super) fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, Error> {
    known(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

/// One gauge.
pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, Error> {
    known(registry, IntGauge::new(name, help)?)
}

/// One histogram.
pub(super) fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> Result<Histogram, Error> {
    known(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
}

/// Counters with two labels.
pub(super) struct Grid {
    cells: Vec<IntCounter>,
    columns: usize,
}

impl Grid {
    /// `can_be` says which pairs exist; the others have a counter that is in no family.
    pub(super) fn new(
        family: IntCounterVec,
        rows: &[&'static str],
        columns: &[&'static str],
        can_be: impl Fn(usize, usize) -> bool,
    ) -> Grid {
        let mut cells = Vec::with_capacity(rows.len() * columns.len());
        for (row, row_name) in rows.iter().enumerate() {
            for (column, column_name) in columns.iter().enumerate() {
                if can_be(row, column) {
                    cells.push(family.with_label_values(&[row_name, column_name]));
                } else if let Ok(unseen) = IntCounter::new("unseen", "unseen") {
                    cells.push(unseen);
                }
            }
        }
        Grid { cells, columns: columns.len() }
    }

    /// The counter of a pair. Both indices come from the enums that the grid was made of.
    pub(super) fn at(&self, row: usize, column: usize) -> &IntCounter {
        &self.cells[row * self.columns + column]
    }
}
