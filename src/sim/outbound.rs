//! What the venue sends, and in which order: answers, stream events, account events, delayed where latency or a fault
//! asks for it. Invariants: frames of one connection never overtake each other; what waits is bounded.

use std::collections::VecDeque;
use std::time::Duration;

use tungstenite::Utf8Bytes;

use crate::clock::MonoNs;
use crate::net::HttpResponse;
use crate::net::server::ConnId;

use super::exchange::Report;
use super::faults::{FaultKind, Target};
use super::listing::{Aggregate, Liquidity, Print};
use super::session;
use super::streams::{StreamKey, StreamKind, stamp};
use super::venue::Venue;
use super::wire;

/// Delayed sends that may wait; the newest are dropped beyond, as on a line that is too slow.
const DELAYED_MAX: usize = 65_536;

/// Periods of the diff streams.
pub(super) const PERIODS: [Duration; 2] =
    [Duration::from_millis(100), Duration::from_millis(1_000)];

/// What waits to be sent.
#[derive(Debug)]
pub(super) enum Outgoing {
    Text(Utf8Bytes),
    Http(HttpResponse),
    Upgrade,
}

impl Venue {
    pub(super) fn send(&mut self, target: Target, conn: ConnId, what: Outgoing) {
        if !self.faults.is_empty() {
            if matches!(what, Outgoing::Text(_)) && self.faults.hit(FaultKind::Drop, target, None) {
                return;
            }
            if let Outgoing::Text(text) = &what
                && self.faults.hit(FaultKind::Duplicate, target, None)
            {
                let again = Outgoing::Text(text.clone());
                self.send_later(target, conn, again);
            }
        }
        self.send_later(target, conn, what);
    }

    pub(super) fn send_later(&mut self, target: Target, conn: ConnId, what: Outgoing) {
        let mut delay = self.latency;
        if !self.faults.is_empty() {
            delay += self.faults.delay(target);
        }
        let busy = self.busy_until.get(&conn).copied().unwrap_or(MonoNs::ZERO);
        if delay.is_zero() && busy <= self.now {
            self.send_now(conn, what);
            return;
        }
        if self.delayed.len() >= DELAYED_MAX {
            self.counters.delayed_dropped += 1;
            // A frame left out silently would be a hole that no venue makes, a request without an answer a
            // connection that waits for ever.
            self.server.drop_conn(conn);
            return;
        }
        let due = self.now.after(delay).max(busy);
        self.busy_until.insert(conn, due);
        self.sent += 1;
        self.delayed.insert((due, self.sent), (conn, what));
    }

    pub(super) fn send_now(&mut self, conn: ConnId, what: Outgoing) {
        self.counters.frames_sent += 1;
        // A connection that is gone meanwhile reports itself closed.
        let _ = match what {
            Outgoing::Text(text) => self.server.send_text(conn, &text),
            Outgoing::Http(response) => self.server.respond(conn, response),
            Outgoing::Upgrade => self.server.accept_ws(conn),
        };
    }

    pub(super) fn send_delayed(&mut self) -> bool {
        let mut did = false;
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (conn, what) = entry.remove();
            self.send_now(conn, what);
            did = true;
        }
        if self.delayed.is_empty() && !self.busy_until.is_empty() {
            self.busy_until.clear();
        }
        did
    }

    pub(super) fn publish(&mut self, key: StreamKey, encode: impl Fn(bool) -> String) {
        if !self.streams.wants(key) {
            return;
        }
        let mut texts: Vec<(ConnId, Utf8Bytes)> = Vec::new();
        self.streams.publish(key, encode, |conn, text| texts.push((conn, text.clone())));
        for (conn, text) in texts {
            self.send(Target::Stream, conn, Outgoing::Text(text));
        }
    }

    /// Tells everybody what has happened on a listing since the last call: trades, then the touch.
    pub(super) fn publish_listing(&mut self, symbol: usize) {
        let name = self.exchange.listings[symbol].rules.symbol.clone();
        let prints: VecDeque<Print> = std::mem::take(&mut self.exchange.listings[symbol].prints);
        let utc = self.utc;
        for print in &prints {
            self.publish((symbol, StreamKind::Trade), |micros| {
                wire::trade_event(&name, print, stamp(utc, micros), stamp(print.time, micros))
            });
        }
        if let Some(first) = prints.front() {
            self.publish_aggregates(symbol, first.id);
        }
        let listing = &self.exchange.listings[symbol];
        let (top, update_id) = (listing.top(), listing.update_id());
        let live = matches!(listing.liquidity, Liquidity::Live(_));
        if live && top != self.published[symbol].top {
            self.published[symbol].top = top;
            self.publish((symbol, StreamKind::BookTicker), |_| {
                wire::touch_event(&name, update_id, &top)
            });
        }
    }

    /// Tells everybody the aggregate trades that hold trade `first` and later ones.
    pub(super) fn publish_aggregates(&mut self, symbol: usize, first: u64) {
        if !self.streams.wants((symbol, StreamKind::AggTrade)) {
            return;
        }
        let listing = &self.exchange.listings[symbol];
        let name = listing.rules.symbol.clone();
        let newest = listing.aggregates().iter().rev().take_while(|a| a.last.id >= first);
        let mut new: Vec<Aggregate> = newest.copied().collect();
        new.reverse();
        let utc = self.utc;
        for aggregate in new {
            self.publish((symbol, StreamKind::AggTrade), |micros| {
                let time = stamp(aggregate.last.time, micros);
                wire::aggregate_event(&name, &aggregate, stamp(utc, micros), time)
            });
        }
    }

    /// Tells accounts what has happened to them since the last call.
    pub(super) fn publish_reports(&mut self) {
        while let Some(report) = self.exchange.reports.pop_front() {
            let account = match &report {
                Report::Execution { order, .. } => order.account,
                Report::Position { account, .. } => *account,
            };
            let listeners: Vec<(ConnId, u64)> = self
                .sessions
                .iter()
                .flat_map(|(conn, session)| {
                    let of = session.subscriptions().iter().filter(|s| s.account == account);
                    of.map(|s| (*conn, s.id))
                })
                .collect();
            if listeners.is_empty() {
                continue;
            }
            let event = wire::report(&self.exchange, &report);
            for (conn, id) in listeners {
                let text = session::event(id, &event).into();
                self.send(Target::UserData, conn, Outgoing::Text(text));
            }
        }
    }

    pub(super) fn flush_diffs(&mut self) -> bool {
        let mut did = false;
        for (speed, period) in PERIODS.into_iter().enumerate() {
            if self.now < self.next_flush[speed] {
                continue;
            }
            // Periods begin at multiples of their length, whenever the venue was started.
            let length = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
            let begun = self.now.as_nanos() / length * length;
            self.next_flush[speed] = MonoNs::from_nanos(begun).after(period);
            for symbol in 0..self.exchange.listings.len() {
                did |= self.flush_diff(symbol, speed);
            }
            if speed == 1 {
                self.publish_by_the_clock();
            }
        }
        did
    }

    pub(super) fn flush_diff(&mut self, symbol: usize, speed: usize) -> bool {
        let utc = self.utc;
        let listing = &mut self.exchange.listings[symbol];
        let update_id = listing.update_id();
        let diff = listing.take_diff(speed);
        let name = listing.rules.symbol.clone();
        if let Some(diff) = &diff
            && (self.faults.is_empty()
                || !self.faults.hit(FaultKind::Gap, Target::Stream, Some(&name)))
        {
            self.publish((symbol, StreamKind::Depth(speed)), |micros| {
                wire::depth_update(&name, diff, stamp(utc, micros))
            });
        }
        if self.published[symbol].partial[speed] != update_id {
            self.published[symbol].partial[speed] = update_id;
            for levels in [5, 10, 20] {
                let key = (symbol, StreamKind::Partial(levels, speed));
                if self.streams.wants(key) {
                    let text = wire::depth(&self.exchange.listings[symbol], levels);
                    self.publish(key, |_| text.clone());
                }
            }
        }
        diff.is_some()
    }

    /// Whether a diff stream of `speed` has something to tell.
    pub(super) fn flush_pending(&self, speed: usize) -> bool {
        let by_the_clock = speed == 1 && self.streams.by_the_clock().next().is_some();
        by_the_clock || self.exchange.listings.iter().any(|listing| listing.has_changes(speed))
    }
}
