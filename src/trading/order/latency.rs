//! How long orders take, in histograms of fixed size.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::trading::domain::instrument::Name;
use crate::trading::telemetry::LatencyView;

/// The longest time told apart, in nanoseconds; anything longer counts as this.
const LONGEST_NS: u64 = 60_000_000_000;

/// The latencies of the order path.
pub(super) struct Latency {
    /// From the bytes of the update read to the bytes of the order handed to the socket.
    pub(super) tick_to_trade: Times,
    /// From the bytes of the order handed to the socket to the venue's acceptance read.
    pub(super) order_ack: Times,
}

impl Latency {
    pub(super) fn new() -> Self {
        Self { tick_to_trade: Times::new("tick_to_trade"), order_ack: Times::new("order_ack") }
    }

    /// Both, for the ops page.
    pub(super) fn fill_view(&self, views: &mut Vec<LatencyView>) {
        views.clear();
        views.extend([self.tick_to_trade.view(), self.order_ack.view()]);
    }
}

/// One latency.
pub(super) struct Times {
    name: Name,
    histogram: Histogram<u64>,
}

impl Times {
    fn new(name: &str) -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 2)
            .expect("the bounds are constants that the histogram accepts");
        Self { name: Name::from(name).unwrap_or_default(), histogram }
    }

    pub(super) fn record(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(ns.clamp(1, LONGEST_NS));
    }

    fn view(&self) -> LatencyView {
        let quantile = |q| self.histogram.value_at_quantile(q);
        LatencyView {
            name: self.name,
            count: self.histogram.len(),
            p50_ns: quantile(0.5),
            p99_ns: quantile(0.99),
            p999_ns: quantile(0.999),
            max_ns: self.histogram.max(),
        }
    }
}
