//! ACTOR sim_venue: one port that speaks REST, market streams, the WebSocket API and `/sim`.
//!
//! In: connections, requests, the time. Out: answers, stream events, account events. Invariants: an answer goes out
//! before the events that its request caused; a turn's work is bounded; the same seed and the same inputs at the same
//! moments give the same outputs.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tungstenite::Utf8Bytes;

use crate::clock::{MonoNs, UtcNs};
use crate::net::server::{ConnId, Server, ServerConfig, ServerEvent, ServerRequest};
use crate::net::{Acceptor, HttpResponse};
use crate::runtime::actor::{Actor, Cx, Fault as ActorFault, Waits, Work};

use super::api;
use super::control;
use super::exchange::{Exchange, Liquidity, Print, Report};
use super::faults::{FaultKind, Faults, Target};
use super::json::{Json, parse_decimal};
use super::market::Synthetic;
use super::matching::Top;
use super::recording::{Playback, Played};
use super::refusal::{Answer, Refusal};
use super::request::{Call, Keys, Params, Security, Spec, rest_payload, rest_spec, weight};
use super::session::{self, Session, SessionRequest};
use super::settings::{MarketSettings, VenueSettings};
use super::streams::{StreamKey, StreamKind, Streams, stamp};
use super::wire;

/// Server events handled in one turn.
const EVENTS_PER_TURN: usize = 64;

/// Market actions or recorded frames done in one turn.
const MARKET_PER_TURN: usize = 256;

/// Delayed sends that may wait; the newest are dropped beyond, as on a line that is too slow.
const DELAYED_MAX: usize = 65_536;

/// Periods of the diff streams.
const PERIODS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(1_000)];

/// The first update id of an empty book; ids of the real venue are as long.
const FIRST_UPDATE_ID: u64 = 1_000_000_001;

/// What waits to be sent.
#[derive(Debug)]
enum Outgoing {
    Text(Utf8Bytes),
    Http(HttpResponse),
    Upgrade,
}

/// Counters shown in `/sim/state`.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    rest_requests: u64,
    api_requests: u64,
    stream_messages: u64,
    frames_sent: u64,
    refused: u64,
    delayed_dropped: u64,
}

/// Weight and orders used in the present windows.
#[derive(Clone, Debug, Default)]
struct Usage {
    minute: i64,
    weight: u32,
    /// Per account: window of ten seconds and its count, day and its count.
    orders: Vec<(i64, u32, i64, u32)>,
}

/// What state there is per listing besides the exchange's.
#[derive(Clone, Copy, Debug, Default)]
struct Published {
    top: Top,
    partial: [u64; 2],
}

/// The simulated venue.
pub struct Venue {
    server: Server,
    exchange: Exchange,
    markets: Vec<Synthetic>,
    playback: Option<Playback>,
    keys: Keys,
    streams: Streams,
    sessions: BTreeMap<ConnId, Session>,
    faults: Faults,
    silenced: Vec<ConnId>,
    usage: Usage,
    counters: Counters,
    latency: Duration,
    delayed: BTreeMap<(MonoNs, u64), (ConnId, Outgoing)>,
    /// Until when each connection's earlier frames are delayed: frames never overtake each other.
    busy_until: BTreeMap<ConnId, MonoNs>,
    sent: u64,
    next_flush: [MonoNs; 2],
    published: Vec<Published>,
    opened: bool,
    now: MonoNs,
    utc: UtcNs,
}

impl std::fmt::Debug for Venue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Venue").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Venue {
    /// A venue that serves what `acceptor` accepts.
    ///
    /// # Errors
    /// Settings that make no venue: no symbol, a broken key, a recording that cannot be read.
    pub fn new(settings: &VenueSettings, acceptor: Box<dyn Acceptor>) -> Result<Self, String> {
        if settings.symbols.is_empty() {
            return Err("a venue needs at least one symbol".to_owned());
        }
        let mut exchange = Exchange::new(settings, FIRST_UPDATE_ID);
        let (mut markets, mut playback) = (Vec::new(), None);
        match &settings.market {
            MarketSettings::Synthetic { updates_per_s, volatility_centibps } => {
                for (at, symbol) in settings.symbols.iter().enumerate() {
                    let (rate, volatility) = (*updates_per_s, *volatility_centibps);
                    markets.push(Synthetic::new(at, symbol.mid, settings.seed, rate, volatility));
                }
            }
            MarketSettings::Recording { path, speed, hold } => {
                let (play, recorded) = Playback::open(path, *speed, *hold)?;
                exchange.use_recording(0, recorded);
                playback = Some(play);
            }
        }
        // A query of the whole history is large, and so is a 5,000-level book.
        let config =
            ServerConfig { write_buffer_bytes_max: 64 * 1024 * 1024, ..ServerConfig::default() };
        let symbols = settings.symbols.iter().map(|s| s.symbol.as_str());
        Ok(Self {
            server: Server::new(acceptor, config),
            markets,
            playback,
            keys: Keys::new(&settings.accounts)?,
            streams: Streams::new(symbols),
            sessions: BTreeMap::new(),
            faults: Faults::new(settings.seed),
            silenced: Vec::new(),
            usage: Usage {
                orders: vec![(0, 0, 0, 0); settings.accounts.len()],
                ..Usage::default()
            },
            counters: Counters::default(),
            latency: settings.latency,
            delayed: BTreeMap::new(),
            busy_until: BTreeMap::new(),
            sent: 0,
            next_flush: [MonoNs::ZERO; 2],
            published: vec![Published::default(); settings.symbols.len()],
            opened: false,
            now: MonoNs::ZERO,
            utc: UtcNs::default(),
            exchange,
        })
    }

    /// The truth, for tests in the same process: as `GET /sim/state`.
    pub fn state(&self) -> String {
        self.state_json(control::HISTORY_SHOWN)
    }

    /// The exchange behind the port, for tests in the same process.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    fn open_market(&mut self) {
        if self.opened {
            return;
        }
        self.opened = true;
        for market in &mut self.markets {
            market.open(&mut self.exchange, self.now);
        }
        for listing in &mut self.exchange.listings {
            // Nobody has seen the book being filled: the diff streams begin after it.
            listing.take_diff(0);
            listing.take_diff(1);
        }
        for (published, listing) in self.published.iter_mut().zip(&self.exchange.listings) {
            published.top = listing.top();
            published.partial = [listing.update_id(); 2];
        }
        self.next_flush = PERIODS.map(|period| self.now.after(period));
    }

    // --- sending -----------------------------------------------------------------------------------------------

    fn send(&mut self, target: Target, conn: ConnId, what: Outgoing) {
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

    fn send_later(&mut self, target: Target, conn: ConnId, what: Outgoing) {
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
            return;
        }
        let due = self.now.after(delay).max(busy);
        self.busy_until.insert(conn, due);
        self.sent += 1;
        self.delayed.insert((due, self.sent), (conn, what));
    }

    fn send_now(&mut self, conn: ConnId, what: Outgoing) {
        self.counters.frames_sent += 1;
        // A connection that is gone meanwhile reports itself closed.
        let _ = match what {
            Outgoing::Text(text) => self.server.send_text(conn, &text),
            Outgoing::Http(response) => self.server.respond(conn, response),
            Outgoing::Upgrade => self.server.accept_ws(conn),
        };
    }

    fn send_delayed(&mut self) -> bool {
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

    fn publish(&mut self, key: StreamKey, encode: impl Fn(bool) -> String) {
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
    fn publish_listing(&mut self, symbol: usize) {
        let name = self.exchange.listings[symbol].rules.symbol.clone();
        let prints: VecDeque<Print> = std::mem::take(&mut self.exchange.listings[symbol].prints);
        let utc = self.utc;
        for print in &prints {
            self.publish((symbol, StreamKind::Trade), |micros| {
                wire::trade_event(&name, print, stamp(utc, micros), stamp(print.time, micros))
            });
        }
        if self.streams.wants((symbol, StreamKind::AggTrade)) {
            for aggregate in wire::aggregate(prints.into_iter()) {
                self.publish((symbol, StreamKind::AggTrade), |micros| {
                    Json::object(|j| {
                        j.f_text("e", "aggTrade").f_int("E", stamp(utc, micros)).f_text("s", &name);
                        wire::aggregate_fields(j, &aggregate, stamp(aggregate.last.time, micros));
                    })
                });
            }
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

    /// Tells accounts what has happened to them since the last call.
    fn publish_reports(&mut self) {
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

    fn flush_diffs(&mut self) -> bool {
        let mut did = false;
        for speed in 0..PERIODS.len() {
            if self.now < self.next_flush[speed] {
                continue;
            }
            let period = u64::try_from(PERIODS[speed].as_nanos()).unwrap_or(u64::MAX);
            let begun = self.now.as_nanos() / period * period;
            self.next_flush[speed] = MonoNs::from_nanos(begun).after(PERIODS[speed]);
            for symbol in 0..self.exchange.listings.len() {
                did |= self.flush_diff(symbol, speed);
            }
        }
        did
    }

    fn flush_diff(&mut self, symbol: usize, speed: usize) -> bool {
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

    // --- the market --------------------------------------------------------------------------------------------

    fn run_market(&mut self) -> bool {
        let mut did = false;
        for at in 0..self.markets.len() {
            for _ in 0..MARKET_PER_TURN {
                if !self.markets[at].step(&mut self.exchange, self.now, self.utc) {
                    break;
                }
                did = true;
                self.publish_listing(at);
                self.publish_reports();
            }
        }
        for _ in 0..MARKET_PER_TURN {
            if !self.play_frame() {
                break;
            }
            did = true;
        }
        did
    }

    fn play_frame(&mut self) -> bool {
        let Some(playback) = &mut self.playback else { return false };
        if self.streams.any_subscription() {
            playback.release();
        }
        let Liquidity::Recorded(recorded) = &mut self.exchange.listings[0].liquidity else {
            return false;
        };
        let Some(played) = playback.poll(recorded, self.now) else { return false };
        match played {
            Played::Depth(text) => {
                let name = self.exchange.listings[0].rules.symbol.clone();
                if self.faults.is_empty()
                    || !self.faults.hit(FaultKind::Gap, Target::Stream, Some(&name))
                {
                    self.publish((0, StreamKind::Depth(0)), |_| text.clone());
                }
            }
            Played::Touch(text) => self.publish((0, StreamKind::BookTicker), |_| text.clone()),
            Played::Trade(text, print) => {
                self.publish((0, StreamKind::Trade), |_| text.clone());
                let name = self.exchange.listings[0].rules.symbol.clone();
                let utc = self.utc;
                for aggregate in wire::aggregate(std::iter::once(print)) {
                    self.publish((0, StreamKind::AggTrade), |micros| {
                        Json::object(|j| {
                            j.f_text("e", "aggTrade")
                                .f_int("E", stamp(utc, micros))
                                .f_text("s", &name);
                            let time = stamp(aggregate.last.time, micros);
                            wire::aggregate_fields(j, &aggregate, time);
                        })
                    });
                }
                self.exchange.recorded_trade(0, print, self.utc);
                self.publish_reports();
            }
        }
        true
    }

    // --- requests ----------------------------------------------------------------------------------------------

    fn serve(&mut self) -> bool {
        for done in 0..EVENTS_PER_TURN {
            let Some(event) = self.server.poll(self.now) else { return done > 0 };
            match event {
                ServerEvent::Request { conn, request } => self.on_http(conn, &request),
                ServerEvent::Upgrade { conn, request } => self.on_upgrade(conn, &request),
                ServerEvent::Message { conn, text } => self.on_text(conn, &text),
                ServerEvent::Closed { conn, .. } => {
                    self.streams.close(conn);
                    self.sessions.remove(&conn);
                    self.silenced.retain(|c| *c != conn);
                }
                // No dialect of ours has binary messages.
                ServerEvent::Binary { conn } => self.server.close(conn, 1003, "text only"),
            }
        }
        true
    }

    fn on_upgrade(&mut self, conn: ConnId, request: &ServerRequest) {
        let api = request.path.trim_end_matches('/') == "/ws-api/v3";
        let target = if api { Target::WsApi } else { Target::Stream };
        if !self.faults.is_empty() && self.faults.hit(FaultKind::RefuseConnect, target, None) {
            self.respond(conn, target, 503, "{}".to_owned(), &[]);
            return;
        }
        if api {
            self.sessions.insert(conn, Session::new(&request.query, self.utc));
        } else if !self.streams.open(conn, &request.path, &request.query, self.now) {
            self.respond(conn, target, 404, "{}".to_owned(), &[]);
            return;
        }
        self.send_later(target, conn, Outgoing::Upgrade);
    }

    fn on_text(&mut self, conn: ConnId, text: &str) {
        if self.silenced.contains(&conn) {
            return;
        }
        if self.streams.contains(conn) {
            self.counters.stream_messages += 1;
            match self.streams.request(conn, text, self.now) {
                Some(answer) => self.send(Target::Stream, conn, Outgoing::Text(answer.into())),
                None => self.server.close(conn, 1008, "Too many requests"),
            }
        } else if self.sessions.contains_key(&conn) {
            self.on_api_text(conn, text);
        }
    }

    fn on_api_text(&mut self, conn: ConnId, text: &str) {
        self.counters.api_requests += 1;
        let request = SessionRequest::decode(text);
        let mut ended = Vec::new();
        let mut account = None;
        let mut call = None;
        let result = match request.call {
            Ok(spec) => {
                call = Some(spec.call);
                let done = self.api_call(conn, spec, &request.params, &mut account);
                done.map(|(result, over)| {
                    ended = over;
                    result
                })
            }
            Err(refusal) => Err(refusal),
        };
        let by_default = self.sessions.get(&conn).is_some_and(|s| s.limits_by_default);
        let orders = account.filter(|_| call == Some(Call::Place)).map(|a| self.usage.orders(a));
        let limits = request.limits.unwrap_or(by_default).then_some((self.usage.weight, orders));
        if !self.loses_ack(call, Target::WsApi) {
            let answer = session::envelope(&request.id, &result, limits);
            self.send(Target::WsApi, conn, Outgoing::Text(answer.into()));
        }
        for id in ended {
            let over = Json::object(|j| {
                j.f_text("e", "eventStreamTerminated").f_int("E", self.utc.as_millis());
            });
            let text = session::event(id, &over).into();
            self.send(Target::UserData, conn, Outgoing::Text(text));
        }
        self.after_request();
    }

    fn api_call(
        &mut self,
        conn: ConnId,
        spec: &Spec,
        params: &Params,
        account: &mut Option<usize>,
    ) -> Answer<(String, Vec<u64>)> {
        self.usage.weigh(weight(spec.call, params), self.utc)?;
        let Some(session) = self.sessions.get_mut(&conn) else {
            return Err(Refusal::new(
                -1000,
                "An unknown error occurred while processing the request.",
            ));
        };
        *account = session.authenticate(&self.keys, spec, params, self.utc)?;
        params.check_known(spec, true)?;
        let of_session = matches!(
            spec.call,
            Call::Logon
                | Call::SessionStatus
                | Call::Logout
                | Call::Subscribe
                | Call::SubscribeSignature
                | Call::Unsubscribe
                | Call::Subscriptions
        );
        if of_session {
            return session.execute(&self.keys, spec.call, *account, params, self.utc);
        }
        self.execute(spec.call, *account, params, Target::WsApi).map(|result| (result, Vec::new()))
    }

    /// Does a call that is the same on both transports.
    fn execute(
        &mut self,
        call: Call,
        account: Option<usize>,
        params: &Params,
        target: Target,
    ) -> Answer<String> {
        if let (Call::OrderCount, Some(account)) = (call, account) {
            let counts = Some((self.usage.weight, Some(self.usage.orders(account))));
            return Ok(Json::array(|j| wire::rate_limits(j, counts)));
        }
        if call == Call::Place {
            if !self.faults.is_empty() && self.faults.hit(FaultKind::Reject, target, None) {
                return Err(Refusal::order("This action is disabled on this account."));
            }
            if let Some(account) = account {
                self.usage.count_order(account, self.utc);
            }
        }
        api::execute(&mut self.exchange, call, account, params, self.utc)
    }

    fn loses_ack(&mut self, call: Option<Call>, target: Target) -> bool {
        !self.faults.is_empty()
            && matches!(call, Some(Call::Place | Call::Cancel | Call::CancelAll))
            && self.faults.hit(FaultKind::LostAck, target, None)
    }

    /// Publishes what a request caused, after its answer.
    fn after_request(&mut self) {
        self.publish_reports();
        for symbol in 0..self.exchange.listings.len() {
            self.publish_listing(symbol);
        }
    }

    fn on_http(&mut self, conn: ConnId, request: &ServerRequest) {
        if request.path.starts_with("/sim/") {
            self.on_control(conn, request);
            return;
        }
        self.counters.rest_requests += 1;
        if !self.faults.is_empty()
            && (self.faults.hit(FaultKind::Disconnect, Target::Rest, None)
                || self.faults.hit(FaultKind::RefuseConnect, Target::Rest, None))
        {
            self.server.drop_conn(conn);
            return;
        }
        if request.path == "/api/v3/userDataStream" {
            let body = "<html>\r\n<head><title>410 Gone</title></head>\r\n<body>\r\n\
                        <center><h1>410 Gone</h1></center>\r\n<hr><center>nginx</center>\r\n\
                        </body>\r\n</html>\r\n";
            let headers = vec![("content-type".to_owned(), "text/html".to_owned())];
            let response = HttpResponse { status: 410, headers, body: body.into() };
            self.send_later(Target::Rest, conn, Outgoing::Http(response));
            return;
        }
        let path = request.path.strip_prefix("/api/v3/").unwrap_or_default();
        let Some(spec) = rest_spec(&request.method, path) else {
            self.respond(conn, Target::Rest, 404, "{}".to_owned(), &[]);
            return;
        };
        let mut account = None;
        let result = self.rest_call(spec, request, &mut account);
        if self.loses_ack(Some(spec.call), Target::Rest) {
            self.server.drop_conn(conn);
        } else {
            let mut headers = vec![("x-mbx-used-weight-1m", self.usage.weight.to_string())];
            headers.push(("x-mbx-used-weight", self.usage.weight.to_string()));
            if let (Call::Place, Some(account)) = (spec.call, account) {
                let (ten_seconds, day) = self.usage.orders(account);
                headers.push(("x-mbx-order-count-10s", ten_seconds.to_string()));
                headers.push(("x-mbx-order-count-1d", day.to_string()));
            }
            match result {
                Ok(body) => self.respond(conn, Target::Rest, 200, body, &headers),
                Err(refusal) => {
                    self.counters.refused += 1;
                    if refusal.status == 429 {
                        headers
                            .push(("retry-after", self.usage.retry_after_s(self.utc).to_string()));
                    }
                    self.respond(
                        conn,
                        Target::Rest,
                        refusal.status,
                        wire::error(&refusal),
                        &headers,
                    );
                }
            }
        }
        self.after_request();
    }

    fn rest_call(
        &mut self,
        spec: &Spec,
        request: &ServerRequest,
        account: &mut Option<usize>,
    ) -> Answer<String> {
        let body = std::str::from_utf8(&request.body)
            .map_err(|_| Refusal::new(-1100, "Illegal characters found in a parameter."))?;
        let params = Params::from_form(&request.query, body)?;
        self.usage.weigh(weight(spec.call, &params), self.utc)?;
        if spec.security != Security::Open {
            let whose = self.keys.account(request.header("x-mbx-apikey"))?;
            let payload = rest_payload(&request.query, body);
            self.keys.check(whose, &params, Some(&payload), self.utc)?;
            *account = Some(whose);
        }
        params.check_known(spec, false)?;
        self.execute(spec.call, *account, &params, Target::Rest)
    }

    fn respond(
        &mut self,
        conn: ConnId,
        target: Target,
        status: u16,
        body: String,
        headers: &[(&str, String)],
    ) {
        let json = ("content-type".to_owned(), "application/json;charset=UTF-8".to_owned());
        let more = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let headers = std::iter::once(json).chain(more).collect();
        let response = HttpResponse { status, headers, body: body.into_bytes() };
        self.send_later(target, conn, Outgoing::Http(response));
    }

    // --- /sim --------------------------------------------------------------------------------------------------

    fn on_control(&mut self, conn: ConnId, request: &ServerRequest) {
        let (status, body) = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/sim/state") => {
                let limit = request.query.split('&').find_map(|pair| pair.strip_prefix("limit="));
                let limit = limit.and_then(|l| l.parse().ok()).unwrap_or(control::HISTORY_SHOWN);
                (200, self.state_json(limit))
            }
            ("POST", "/sim/faults") => self.add_fault(&request.body),
            ("DELETE", "/sim/faults") => {
                self.faults.clear();
                self.speak_again();
                (200, "{}".to_owned())
            }
            ("POST", "/sim/market") => self.move_market(&request.body),
            _ => (404, "{}".to_owned()),
        };
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        // Control is never slowed by faults: it is how they end.
        self.send_now(
            conn,
            Outgoing::Http(HttpResponse { status, headers, body: body.into_bytes() }),
        );
    }

    fn add_fault(&mut self, body: &[u8]) -> (u16, String) {
        let fault = match self.faults.add(body, self.now) {
            Ok(fault) => fault,
            Err(why) => return (400, error_text(&why)),
        };
        let (reach, id) = Faults::reach(&fault);
        let struck: Vec<ConnId> =
            self.connections_of(fault.target).into_iter().take(reach).collect();
        match fault.kind {
            FaultKind::Disconnect if fault.target != Some(Target::Rest) => {
                for conn in &struck {
                    self.server.drop_conn(*conn);
                }
                self.faults.struck(id, struck.len() as u64, true);
            }
            FaultKind::HalfOpen => {
                for conn in &struck {
                    self.server.half_open(*conn, true);
                }
                self.faults.struck(id, struck.len() as u64, false);
                self.silenced.extend(struck);
            }
            _ => {}
        }
        (200, "{}".to_owned())
    }

    fn connections_of(&self, target: Option<Target>) -> Vec<ConnId> {
        let streams = self.streams.connections().map(|(conn, _)| conn);
        let api = self.sessions.keys().copied();
        let listening =
            |conn: &ConnId| self.sessions.get(conn).is_some_and(|s| !s.subscriptions().is_empty());
        match target {
            None => streams.chain(api).collect(),
            Some(Target::Stream) => streams.collect(),
            Some(Target::WsApi) => api.collect(),
            Some(Target::UserData) => api.filter(listening).collect(),
            Some(Target::Rest) => Vec::new(),
        }
    }

    fn speak_again(&mut self) {
        for conn in std::mem::take(&mut self.silenced) {
            self.server.half_open(conn, false);
        }
    }

    fn move_market(&mut self, body: &[u8]) -> (u16, String) {
        let request: serde_json::Value = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(e) => return (400, error_text(&e.to_string())),
        };
        let symbol = request.get("symbol").and_then(serde_json::Value::as_str);
        let at =
            self.exchange.listings.iter().position(|l| Some(l.rules.symbol.as_str()) == symbol);
        let mid = match request.get("mid") {
            Some(serde_json::Value::String(text)) => parse_decimal(text),
            Some(serde_json::Value::Number(number)) => parse_decimal(&number.to_string()),
            _ => None,
        };
        let Some((at, mid)) = at.zip(mid.filter(|mid| *mid > 0)) else {
            return (400, error_text("expected a known symbol and a mid above 0"));
        };
        let Some(market) = self.markets.get_mut(at) else {
            return (400, error_text("a recording cannot be moved"));
        };
        market.jump(&mut self.exchange, mid, self.utc);
        self.publish_listing(at);
        self.publish_reports();
        (200, "{}".to_owned())
    }

    fn state_json(&self, limit: usize) -> String {
        Json::object(|j| {
            j.f_int("time", self.utc.as_millis());
            control::exchange(j, &self.exchange, limit);
            j.key("connections").obj(|j| {
                j.f_int("total", self.server.connections());
                j.key("streams").arr(|j| {
                    for (_, names) in self.streams.connections() {
                        j.arr(|j| {
                            names.iter().for_each(|name| {
                                j.text(name);
                            })
                        });
                    }
                });
                j.f_int("ws_api", self.sessions.len());
                let subscribed =
                    self.sessions.values().map(|s| s.subscriptions().len()).sum::<usize>();
                j.f_int("user_data", subscribed);
            });
            j.key("counters").obj(|j| {
                let c = &self.counters;
                j.f_int("rest_requests", c.rest_requests)
                    .f_int("ws_api_requests", c.api_requests)
                    .f_int("stream_messages", c.stream_messages)
                    .f_int("frames_sent", c.frames_sent)
                    .f_int("refused", c.refused)
                    .f_int("delayed_dropped", c.delayed_dropped);
            });
            j.key("faults");
            self.faults.state(j);
            if let Some(playback) = &self.playback {
                j.key("recording").obj(|j| {
                    j.f_flag("over", playback.is_over())
                        .f_int("frames", playback.played)
                        .f_int("bad_lines", playback.bad_lines);
                });
            }
        })
    }
}

fn error_text(why: &str) -> String {
    Json::object(|j| {
        j.f_text("error", why);
    })
}

impl Usage {
    fn weigh(&mut self, weight: u32, utc: UtcNs) -> Answer<()> {
        let minute = utc.as_millis().div_euclid(60_000);
        if minute != self.minute {
            (self.minute, self.weight) = (minute, 0);
        }
        self.weight = self.weight.saturating_add(weight);
        if self.weight > wire::WEIGHT_LIMIT {
            let msg = format!(
                "Too much request weight used; current limit is {} request weight per 1 MINUTE. \
                 Please use WebSocket Streams for live updates to avoid polling the API.",
                wire::WEIGHT_LIMIT
            );
            return Err(Refusal { status: 429, code: -1003, msg });
        }
        Ok(())
    }

    fn retry_after_s(&self, utc: UtcNs) -> i64 {
        60 - utc.as_millis().rem_euclid(60_000) / 1_000
    }

    fn count_order(&mut self, account: usize, utc: UtcNs) {
        let (ten, day) =
            (utc.as_millis().div_euclid(10_000), utc.as_millis().div_euclid(86_400_000));
        let Some(count) = self.orders.get_mut(account) else { return };
        if count.0 != ten {
            (count.0, count.1) = (ten, 0);
        }
        if count.2 != day {
            (count.2, count.3) = (day, 0);
        }
        count.1 += 1;
        count.3 += 1;
    }

    fn orders(&self, account: usize) -> (u32, u32) {
        self.orders.get(account).map_or((0, 0), |count| (count.1, count.3))
    }
}

impl Actor for Venue {
    fn turn(&mut self, cx: &mut Cx) -> Result<Work, ActorFault> {
        (self.now, self.utc) = (cx.now, cx.utc);
        self.open_market();
        if !self.faults.is_empty() && self.faults.expire(self.now) {
            self.speak_again();
        }
        let mut did = self.serve();
        did |= self.run_market();
        did |= self.flush_diffs();
        did |= self.send_delayed();
        self.server.flush();
        Ok(Work::when(did))
    }

    fn waits(&self, waits: &mut Waits) {
        self.server.waits(&mut |fd, writable| {
            if writable {
                waits.writable(fd);
            } else {
                waits.readable(fd);
            }
        });
        let market = self.markets.iter().map(Synthetic::due);
        let frame = self.playback.iter().filter_map(Playback::due);
        let delayed = self.delayed.keys().next().map(|(due, _)| *due);
        let flushes = (0..PERIODS.len()).filter(|speed| self.flush_pending(*speed));
        let flushes = flushes.map(|speed| self.next_flush[speed]);
        let all = market.chain(frame).chain(delayed).chain(flushes).chain(self.faults.next_end());
        if let Some(first) = all.filter(|due| *due != MonoNs::NEVER).min() {
            waits.until(first);
        }
    }
}

impl Venue {
    fn flush_pending(&self, speed: usize) -> bool {
        self.exchange.listings.iter().any(|listing| listing.has_changes(speed))
    }
}
