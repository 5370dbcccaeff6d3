//! What the venue sends, and in which order: answers, stream events, account events, delayed where latency or a fault
//! asks for it. Invariants: frames of one connection never overtake each other; what waits is bounded.

use std::collections::VecDeque;
use std::time::Duration;

use tungstenite::Utf8Bytes;

use crate::clock::{MonoNs, UtcNs};
use crate::net::HttpResponse;
use crate::net::server::ConnId;

use super::exchange::{Exec, Report};
use super::faults::{Corruption, Fault, FaultKind, Target};
use super::listing::{Aggregate, Liquidity, Print};
use super::micros::in_micros;
use super::session;
use super::streams::{StreamKey, StreamKind, stamp};
use super::venue::Venue;
use super::wire;

/// Whom a fault hits that hits all listeners at once.
pub(super) const NOBODY: ConnId = ConnId(0);

/// The length that a broken frame claims: nobody has room for it.
const HUGE_BYTES: usize = 1 << 40;

/// Delayed sends that may wait; the newest are dropped beyond, as on a line that is too slow.
const DELAYED_MAX: usize = 65_536;

/// Periods of the diff streams.
pub(super) const PERIODS: [Duration; 2] =
    [Duration::from_millis(100), Duration::from_millis(1_000)];

/// How long a request whose answer a fault lost keeps its connection.
const UNANSWERED: Duration = Duration::from_secs(60);

/// What waits to be sent.
#[derive(Debug)]
pub(super) enum Outgoing {
    Text(Utf8Bytes),
    Http(HttpResponse),
    Upgrade,
    /// Bytes that a fault broke, and whether the connection ends after them.
    Raw(Vec<u8>, bool),
    /// The close handshake begins.
    Close(u16, &'static str),
    /// The connection ends at once.
    Cut,
}

impl Venue {
    pub(super) fn send(&mut self, target: Target, conn: ConnId, what: Outgoing) {
        if self.faults.is_empty() && self.held.is_empty() {
            self.send_later(target, conn, what);
        } else {
            self.send_faulty(target, conn, what);
        }
    }

    /// Sends what the faults leave of it, when they say.
    fn send_faulty(&mut self, target: Target, conn: ConnId, what: Outgoing) {
        let about = self.about;
        if self.faults.hit(FaultKind::Drop, target, about, conn) {
            if matches!(what, Outgoing::Http(_)) {
                self.schedule(conn, UNANSWERED, Outgoing::Cut);
            }
            return;
        }
        let broken = self.faults.strike(FaultKind::Corrupt, target, about, conn, |_| true);
        let what = match broken {
            Some(fault) => corrupt(what, self.faults.corruption(&fault)),
            None => what,
        };
        if let Outgoing::Text(text) = &what {
            if self.faults.hit(FaultKind::Duplicate, target, about, conn) {
                let again = Outgoing::Text(text.clone());
                self.send_later(target, conn, again);
            }
            if !self.held.contains_key(&conn)
                && self.faults.hit(FaultKind::Reorder, target, about, conn)
            {
                self.held.insert(conn, (target, what));
                return;
            }
        }
        self.send_later(target, conn, what);
        if let Some((target, held)) = self.held.remove(&conn) {
            self.send_later(target, conn, held);
        }
    }

    /// Sends what waits for a frame that may never come.
    pub(super) fn release_held(&mut self) {
        for (conn, (target, held)) in std::mem::take(&mut self.held) {
            self.send_later(target, conn, held);
        }
    }

    pub(super) fn send_later(&mut self, target: Target, conn: ConnId, what: Outgoing) {
        let mut delay = self.latency;
        if !self.faults.is_empty() {
            delay += self.faults.delay(target, self.about, conn);
        }
        let busy = self.busy_until.get(&conn).copied().unwrap_or(MonoNs::ZERO);
        if delay.is_zero() && busy <= self.now {
            self.send_now(conn, what);
            return;
        }
        let due = self.now.after(delay).max(busy);
        self.busy_until.insert(conn, due);
        self.schedule(conn, due.since(self.now), what);
    }

    /// Sends something after `delay`, whatever else is sent until then.
    pub(super) fn schedule(&mut self, conn: ConnId, delay: Duration, what: Outgoing) {
        if self.delayed.len() >= DELAYED_MAX {
            self.counters.delayed_dropped += 1;
            // A frame left out silently would be a hole that no venue makes, a request without an answer a
            // connection that waits for ever.
            let why = format!("does not read: more than {DELAYED_MAX} frames are delayed");
            self.server.drop_because(conn, &why);
            return;
        }
        self.sent += 1;
        self.delayed.insert((self.now.after(delay), self.sent), (conn, what));
    }

    pub(super) fn send_now(&mut self, conn: ConnId, what: Outgoing) {
        self.counters.frames_sent += 1;
        // A connection that is gone meanwhile reports itself closed.
        let _ = match what {
            Outgoing::Text(text) => {
                if self.drop_unread(conn) {
                    return;
                }
                self.server.send_text(conn, &text)
            }
            Outgoing::Http(response) => self.server.respond(conn, dated(response, self.utc)),
            Outgoing::Upgrade => self.server.accept_ws(conn),
            Outgoing::Raw(bytes, ends) => {
                let sent = self.server.send_raw(conn, &bytes);
                if ends {
                    self.server.cut(conn);
                }
                sent
            }
            Outgoing::Close(code, reason) => {
                self.server.close(conn, code, reason);
                true
            }
            Outgoing::Cut => {
                self.server.drop_conn(conn);
                true
            }
        };
    }

    /// Drops a connection for which too much waits.
    pub(super) fn drop_unread(&mut self, conn: ConnId) -> bool {
        let limit = self.connections.unread_bytes_max;
        if self.server.buffered(conn) <= limit {
            return false;
        }
        self.counters.slow_dropped += 1;
        let why = format!("does not read: more than {limit} bytes wait (unread_bytes_max)");
        self.server.drop_because(conn, &why);
        true
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
        self.about = Some(key.0);
        let timed = !matches!(key.1, StreamKind::BookTicker | StreamKind::Partial(..));
        for (conn, text) in texts {
            self.send(Target::Stream, conn, Outgoing::Text(text));
            if timed && self.faults.any(FaultKind::ClockSkew) {
                // The event was encoded with a wrong clock; the next one meets the fault with one less to do.
                self.faults.skew(Target::Stream, Some(conn));
                self.set_clock();
            }
        }
        self.about = None;
    }

    /// Tells everybody what has happened on a listing since the last call: trades, then the touch.
    pub(super) fn publish_listing(&mut self, symbol: usize) {
        let name = self.exchange.listings[symbol].rules.symbol.clone();
        let prints: VecDeque<Print> = std::mem::take(&mut self.exchange.listings[symbol].prints);
        for print in &prints {
            let utc = self.utc;
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
        for aggregate in new {
            let utc = self.utc;
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
            let listeners: Vec<(ConnId, u64, bool)> = self
                .sessions
                .iter()
                .flat_map(|(conn, session)| {
                    let of = session.subscriptions().iter().filter(|s| s.account == account);
                    of.map(|s| (*conn, s.id, session.micros))
                })
                .collect();
            if listeners.is_empty() {
                continue;
            }
            let event = wire::report(&self.exchange, &report);
            let (about, fill) = match &report {
                Report::Execution { order, exec, .. } => {
                    (Some(order.asked.symbol), matches!(exec, Exec::Trade { .. }))
                }
                Report::Position { .. } => (None, false),
            };
            self.about = about;
            for (conn, id, micros) in listeners {
                let text = if micros {
                    session::event(id, &in_micros(&event))
                } else {
                    session::event(id, &event)
                };
                self.send_report(conn, text.into(), fill);
            }
            self.about = None;
        }
    }

    /// Sends an account event; those of fills may come late or twice.
    fn send_report(&mut self, conn: ConnId, text: Utf8Bytes, fill: bool) {
        if !self.faults.is_empty() {
            let (about, to) = (self.about, Target::UserData);
            let named = |fault: &Fault| fault.target == Some(Target::UserData);
            if self.faults.strike(FaultKind::Gap, to, about, conn, named).is_some() {
                return;
            }
            if fill && self.faults.hit(FaultKind::DuplicateFill, to, about, conn) {
                self.send(to, conn, Outgoing::Text(text.clone()));
            }
            if fill
                && let Some(fault) =
                    self.faults.strike(FaultKind::LateFill, to, about, conn, |_| true)
            {
                self.schedule(conn, self.latency + fault.latency, Outgoing::Text(text));
                return;
            }
        }
        self.send(Target::UserData, conn, Outgoing::Text(text));
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
        let diff = listing.take_diff(speed);
        let name = listing.rules.symbol.clone();
        if let Some(diff) = &diff
            && (self.faults.is_empty()
                || !self.faults.hit(FaultKind::Gap, Target::Stream, Some(symbol), NOBODY))
        {
            self.publish((symbol, StreamKind::Depth(speed)), |micros| {
                wire::depth_update(&name, diff, stamp(utc, micros))
            });
        }
        // Partial books come in every period, changed or not.
        for levels in [5, 10, 20] {
            let key = (symbol, StreamKind::Partial(levels, speed));
            if self.streams.wants(key) {
                let text = wire::depth(&self.exchange.listings[symbol], levels);
                self.publish(key, |_| text.clone());
            }
        }
        diff.is_some()
    }

    /// Whether a diff stream of `speed` has something to tell.
    pub(super) fn flush_pending(&self, speed: usize) -> bool {
        let by_the_clock = speed == 1 && self.streams.by_the_clock().next().is_some();
        by_the_clock
            || self.streams.any_partial(speed)
            || self.exchange.listings.iter().any(|listing| listing.has_changes(speed))
    }
}

/// What is left of `what`; only frames and answers can be broken.
fn corrupt(what: Outgoing, how: Corruption) -> Outgoing {
    match what {
        Outgoing::Text(text) => corrupt_text(text.as_bytes(), how),
        Outgoing::Http(response) => corrupt_http(response, how),
        other => other,
    }
}

/// A response with the moment it is sent, as a server with a clock must say it (RFC 9110, 6.6.1); clients read it.
fn dated(mut response: HttpResponse, utc: UtcNs) -> HttpResponse {
    let date = jiff::Timestamp::from_second(utc.as_millis().div_euclid(1_000)).and_then(|second| {
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&second)
    });
    // A clock that a fault has set beyond all calendars is a clock that says nothing.
    response.headers.extend(date.ok().map(|date| ("date".to_owned(), date)));
    response
}

/// A text with a byte in its middle that is no UTF-8.
fn not_utf8(text: &[u8]) -> Vec<u8> {
    let mut broken = text.to_vec();
    broken.insert(text.len() / 2, 0xff);
    broken
}

/// A text frame, unmasked and final (RFC 6455, 5.2), whose head claims `claimed` bytes.
fn frame(payload: &[u8], claimed: usize) -> Vec<u8> {
    let length = (claimed as u64).to_be_bytes();
    let mut bytes = vec![0x81];
    match claimed {
        0..=125 => bytes.push(length[7]),
        126..=0xffff => bytes.extend_from_slice(&[126, length[6], length[7]]),
        _ => {
            bytes.push(127);
            bytes.extend_from_slice(&length);
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

fn corrupt_text(text: &[u8], how: Corruption) -> Outgoing {
    let half = &text[..text.len() / 2];
    match how {
        Corruption::Json => Outgoing::Raw(frame(half, half.len()), false),
        Corruption::Utf8 => {
            let broken = not_utf8(text);
            Outgoing::Raw(frame(&broken, broken.len()), false)
        }
        Corruption::Huge => Outgoing::Raw(frame(text, HUGE_BYTES), false),
        Corruption::Truncated => Outgoing::Raw(frame(half, text.len()), true),
    }
}

fn corrupt_http(mut response: HttpResponse, how: Corruption) -> Outgoing {
    let half = response.body.len() / 2;
    let claimed = match how {
        Corruption::Json => {
            response.body.truncate(half);
            return Outgoing::Http(response);
        }
        Corruption::Utf8 => {
            response.body = not_utf8(&response.body);
            return Outgoing::Http(response);
        }
        Corruption::Huge => HUGE_BYTES,
        Corruption::Truncated => response.body.len() + 1,
    };
    let mut bytes = format!("HTTP/1.1 {} Broken\r\ncontent-length: {claimed}\r\n", response.status)
        .into_bytes();
    for (name, value) in &response.headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&response.body[..half]);
    Outgoing::Raw(bytes, true)
}
