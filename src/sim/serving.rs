//! Requests on all three transports. In: what the server's connections say. Out: answers, and then what they caused.

use std::time::Duration;

use crate::clock::{MonoNs, UtcNs};
use crate::net::server::{ConnId, ServerEvent, ServerRequest};
use crate::net::{HttpResponse, UNACKNOWLEDGED};

use super::api;
use super::calls::{Call, Security, Spec, rest_spec, weight};
use super::faults::{Detail, Fault, FaultKind, Target, When};
use super::json::{Json, TimeUnit};
use super::outbound::Outgoing;
use super::refusal::{Answer, Refusal};
use super::request::{Params, rest_payload};
use super::session::{self, Session, SessionRequest};
use super::venue::{Ended, Venue};
use super::wire;

/// Server events handled in one turn.
const EVENTS_PER_TURN: usize = 64;

/// In which so many connections may be made.
const CONNECTS_WINDOW: Duration = Duration::from_secs(300);

/// Connections remembered, whoever made them; more are refused.
const CONNECTS_KEPT: usize = 65_536;

/// What a connection to the WebSocket API weighs.
const CONNECT_WEIGHT: u32 = 2;
/// Connections that ended and are still told of.
const ENDED_MAX: usize = 256;

/// How REST connections end every time.
const USUAL_ENDS: [&str; 3] = ["answered", "closed by peer", "idle"];

/// How often old connections are looked for.
const CENSUS: Duration = Duration::from_secs(1);

/// How long a silenced REST connection is kept.
const SILENT_MAX: Duration = Duration::from_secs(600);

const TOO_MANY: &str = "Too many requests";

const TIMEOUT: &str = "Timeout waiting for response from backend server. Send status unknown; execution \
                       status unknown.";

const OVERLOADED: &str = "Server is currently overloaded with other requests. Please try again in a few \
                          minutes.";

impl Venue {
    pub(super) fn serve(&mut self) -> bool {
        for done in 0..EVENTS_PER_TURN {
            let Some(event) = self.server.poll(self.now) else { return done > 0 };
            match event {
                ServerEvent::Request { conn, request } => self.on_http(conn, &request),
                ServerEvent::Upgrade { conn, request } => self.on_upgrade(conn, &request),
                ServerEvent::Message { conn, text } => self.on_text(conn, &text),
                ServerEvent::Closed { conn, why } => self.on_closed(conn, why),
                ServerEvent::Control { conn } => {
                    // The server's answers to pings wait with everything else.
                    if !self.drop_unread(conn) && !self.streams.count(conn, self.now) {
                        self.server.close(conn, 1008, TOO_MANY);
                    }
                }
                // No dialect of ours has binary messages.
                ServerEvent::Binary { conn } => self.server.close(conn, 1003, "text only"),
            }
        }
        true
    }

    /// Forgets a connection, but not why it ended.
    fn on_closed(&mut self, conn: ConnId, why: String) {
        self.streams.close(conn);
        let api = self.sessions.remove(&conn).is_some();
        self.silenced.retain(|(c, _)| *c != conn);
        self.sliced.retain(|(c, _)| *c != conn);
        self.busy_until.remove(&conn);
        self.held.remove(&conn);
        let opened = self.opened_at.remove(&conn).is_some();
        if !opened && USUAL_ENDS.iter().any(|usual| why.starts_with(usual)) {
            return;
        }
        if why.starts_with(UNACKNOWLEDGED) {
            self.counters.slow_dropped += 1;
        }
        let transport = match (opened, api) {
            (_, true) => Target::WsApi,
            (true, false) => Target::Stream,
            (false, false) => Target::Rest,
        };
        let transport = transport.label();
        let level = if why.contains("by peer") { log::Level::Debug } else { log::Level::Info };
        log::log!(
            target: "venue",
            level,
            "event=conn.ended id={} transport={transport} why={why:?}", conn.0
        );
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended { conn, transport, utc: self.true_utc, why });
    }

    pub(super) fn on_upgrade(&mut self, conn: ConnId, request: &ServerRequest) {
        let api = request.path.trim_end_matches('/') == "/ws-api/v3";
        let target = if api { Target::WsApi } else { Target::Stream };
        if !self.faults.is_empty()
            && (self.faults.hit(FaultKind::RefuseConnect, target, None, conn)
                || self
                    .faults
                    .strike(FaultKind::Disconnect, target, None, conn, Fault::lasts)
                    .is_some())
        {
            self.server.drop_conn(conn);
            return;
        }
        let mut admitted = self.may_connect(conn);
        if api {
            admitted = admitted.and_then(|()| self.open_session(conn, &request.query));
        }
        if let Err(refusal) = admitted {
            let headers = self.retry_after(&refusal);
            self.respond(conn, target, refusal.status, wire::error(&refusal), headers.as_slice());
            return;
        }
        if api {
            // It is open already.
        } else if !self.streams.open(conn, &request.path, &request.query, self.now) {
            self.respond(conn, target, 404, "{}".to_owned(), &[]);
            return;
        }
        self.opened_at.insert(conn, (self.now, self.utc));
        self.slice_new(conn, target);
        self.send_later(target, conn, Outgoing::Upgrade);
    }

    /// Counts a WebSocket connection; each address may make only so many.
    fn may_connect(&mut self, conn: ConnId) -> Answer<()> {
        let old = |at: MonoNs| self.now.since(at) >= CONNECTS_WINDOW;
        while self.connects.front().is_some_and(|(at, _)| old(*at)) {
            self.connects.pop_front();
        }
        let peer = self.server.peer(conn);
        let made = self.connects.iter().filter(|(_, of)| *of == peer).count();
        let limit = self.connections.connects_max;
        if made >= limit || self.connects.len() >= CONNECTS_KEPT {
            let msg = format!(
                "Too many connection attempts from IP; current limit is {limit} per '5 MINUTE'."
            );
            return Err(Refusal { status: 429, ..Refusal::new(-1034, msg) });
        }
        self.connects.push_back((self.now, peer));
        Ok(())
    }

    fn open_session(&mut self, conn: ConnId, query: &str) -> Answer<()> {
        let session = Session::new(query, self.utc)?;
        self.usage.weigh(CONNECT_WEIGHT, &self.exchange.limits, self.utc)?;
        self.sessions.insert(conn, session);
        Ok(())
    }

    /// Users of the WebSocket API are disconnected when their address is banned. What they are told goes first.
    fn disconnect_banned(&mut self) {
        if self.sessions.is_empty() || !self.usage.is_banned(self.utc) {
            return;
        }
        for conn in std::mem::take(&mut self.sessions).into_keys() {
            self.send_later(Target::WsApi, conn, Outgoing::Close(1008, "IP banned"));
        }
    }

    fn slice_new(&mut self, conn: ConnId, target: Target) {
        if !self.faults.is_empty()
            && let Some(fault) = self.faults.strike(FaultKind::Slice, target, None, conn, |_| true)
        {
            self.server.slice(conn, true);
            self.sliced.push((conn, fault.id));
        }
    }

    /// Ends connections that have lived too long.
    pub(super) fn end_old(&mut self) {
        if self.now < self.next_census {
            return;
        }
        self.next_census = self.now.after(CENSUS);
        let life = self.connections.life;
        let old = |at: &MonoNs| self.now.since(*at) >= life;
        let old: Vec<ConnId> =
            self.opened_at.iter().filter(|(_, (at, _))| old(at)).map(|(conn, _)| *conn).collect();
        for conn in old {
            self.opened_at.remove(&conn);
            self.counters.aged_out += 1;
            self.server.close(conn, 1008, "Connection limit of its lifetime reached");
        }
    }

    /// The venue's clock as a request of `conn` meets it; [`Venue::set_clock`] undoes it.
    fn skew_clock(&mut self, target: Target, conn: Option<ConnId>) {
        if self.faults.any(FaultKind::ClockSkew) {
            let skew = self.faults.skew(target, conn).saturating_mul(1_000_000);
            self.utc = UtcNs::from_nanos(self.true_utc.as_nanos().saturating_add(skew));
        }
    }

    /// The clock that events have which nobody asked for.
    pub(super) fn set_clock(&mut self) {
        self.utc = self.true_utc;
        self.skew_clock(Target::Stream, None);
    }

    /// Whether a fault keeps a connection from saying anything.
    pub(super) fn is_silenced(&self, conn: ConnId) -> bool {
        self.silenced.iter().any(|(silent, _)| *silent == conn)
    }

    pub(super) fn on_text(&mut self, conn: ConnId, text: &str) {
        if self.is_silenced(conn) {
            return;
        }
        if self.streams.contains(conn) {
            self.counters.stream_messages += 1;
            match self.streams.request(conn, text, self.now) {
                Some(answer) => self.send(Target::Stream, conn, Outgoing::Text(answer.into())),
                None => self.server.close(conn, 1008, TOO_MANY),
            }
        } else if self.sessions.contains_key(&conn) {
            self.on_api_text(conn, text);
        }
    }

    pub(super) fn on_api_text(&mut self, conn: ConnId, text: &str) {
        self.counters.api_requests += 1;
        self.skew_clock(Target::WsApi, Some(conn));
        let micros = self.sessions.get(&conn).is_some_and(|s| s.micros);
        let unit = if micros { TimeUnit::Microsecond } else { TimeUnit::Millisecond };
        let request = SessionRequest::decode(text);
        let request = SessionRequest { params: request.params.in_unit(unit), ..request };
        self.about = self.symbol_of(&request.params);
        let spec = request.call.as_ref().ok().copied();
        let failure = self.failure(Target::WsApi, conn, spec);
        let mut account = None;
        let (result, ended) = match (&failure, &request.call) {
            (Some((failure, When::Before)), _) => (Err(failure.clone()), Vec::new()),
            (_, Err(refusal)) => (Err(refusal.clone()), Vec::new()),
            (_, Ok(spec)) => match self.api_call(conn, spec, &request.params, &mut account) {
                Ok((result, ended)) => (Ok(result), ended),
                Err(refusal) => (Err(refusal), Vec::new()),
            },
        };
        let disconnects = failure.as_ref().is_some_and(|(failure, _)| failure.status == 418);
        let before = matches!(failure, Some((_, When::Before)));
        let result = failure.map_or(result, |(failure, _)| Err(failure));
        if before || !self.loses_ack(spec, Target::WsApi, conn) {
            self.answer_api(conn, &request, &result, account);
        }
        for id in ended {
            self.tell_terminated(conn, id);
        }
        if disconnects {
            self.send_later(Target::WsApi, conn, Outgoing::Close(1008, "IP banned"));
        }
        self.about = None;
        self.set_clock();
        self.after_request();
    }

    fn answer_api(
        &mut self,
        conn: ConnId,
        request: &SessionRequest,
        result: &Answer<String>,
        account: Option<usize>,
    ) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let places = request.call.as_ref().is_ok_and(|spec| places(spec.call));
        let orders = account.filter(|_| places);
        let told = session::Told {
            limits: self.exchange.limits,
            weight: self.usage.weight(),
            orders: orders.map(|a| self.exchange.accounts[a].counts.at(self.utc)),
        };
        let told = request.limits.unwrap_or(session.limits_by_default).then_some(told);
        let answer = session.envelope(&request.id, result, told, self.utc);
        self.send(Target::WsApi, conn, Outgoing::Text(answer.into()));
    }

    fn tell_terminated(&mut self, conn: ConnId, subscription: u64) {
        let Some(session) = self.sessions.get(&conn) else { return };
        let over = Json::object(|j| {
            j.f_text("e", "eventStreamTerminated").f_int("E", self.utc.as_millis());
        });
        let text = session::event(subscription, &session.in_its_unit(&over)).into();
        self.send(Target::UserData, conn, Outgoing::Text(text));
    }

    pub(super) fn api_call(
        &mut self,
        conn: ConnId,
        spec: &Spec,
        params: &Params,
        account: &mut Option<usize>,
    ) -> Answer<(String, Vec<u64>)> {
        self.usage.weigh(weight(spec.call, params), &self.exchange.limits, self.utc)?;
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
        self.execute(spec.call, *account, params, (Target::WsApi, conn))
            .map(|result| (result, Vec::new()))
    }

    /// Does a call that is the same on both transports.
    pub(super) fn execute(
        &mut self,
        call: Call,
        account: Option<usize>,
        params: &Params,
        (target, conn): (Target, ConnId),
    ) -> Answer<String> {
        if !self.faults.is_empty()
            && let Some(answer) = self.execute_faulty(call, params, target, conn)
        {
            return answer;
        }
        let done = api::execute(&mut self.exchange, call, account, params, self.utc);
        if done.is_ok() && call.is_free_when_done() {
            self.usage.forgive(weight(call, params));
        }
        done
    }

    /// The answer that a fault gives in place of the call's.
    fn execute_faulty(
        &mut self,
        call: Call,
        params: &Params,
        target: Target,
        conn: ConnId,
    ) -> Option<Answer<String>> {
        let about = self.about;
        if call == Call::Depth
            && let Some(symbol) = about
            && self.stale.is_some()
            && self.faults.hit(FaultKind::StaleSnapshot, target, about, conn)
        {
            let limit = match params.limit(100, 5_000) {
                Ok(limit) => limit,
                Err(refusal) => return Some(Err(refusal)),
            };
            return self.stale.as_ref()?.get(symbol).map(|snapshot| Ok(snapshot.json(limit)));
        }
        if !places(call) {
            return None;
        }
        let halted = about.is_some_and(|symbol| self.faults.halt(symbol).is_some());
        if halted
            && self.faults.strike(FaultKind::SymbolStatus, target, about, conn, |_| true).is_some()
        {
            return Some(Err(Refusal::new(-1013, "Market is closed.")));
        }
        let fault = self.faults.strike(FaultKind::Reject, target, about, conn, |_| true)?;
        let Detail::Refusal(code, msg) = fault.detail else { return None };
        Some(Err(Refusal::new(code, msg)))
    }

    /// The status of failure that a fault answers a request with, and when.
    fn failure(
        &mut self,
        target: Target,
        conn: ConnId,
        spec: Option<&'static Spec>,
    ) -> Option<(Refusal, When)> {
        if self.faults.is_empty() {
            return None;
        }
        let changes = spec.is_some_and(changes);
        let applies =
            |fault: &Fault| changes || matches!(fault.detail, Detail::Status(_, When::Before));
        let fault = self.faults.strike(FaultKind::Status, target, self.about, conn, applies)?;
        let Detail::Status(status, when) = fault.detail else { return None };
        let (code, msg) = match status {
            403 => (-1002, "You are not authorized to execute this request."),
            418 => {
                (-1003, "Way too much request weight used; IP banned until the end of the minute.")
            }
            429 => (-1003, "Too many requests queued."),
            500 => (-1000, "An unknown error occurred while processing the request."),
            503 => (-1008, OVERLOADED),
            _ => (-1007, TIMEOUT),
        };
        let refusal = Refusal::new(code, msg);
        Some((Refusal { status, ..refusal }, when))
    }

    fn loses_ack(&mut self, spec: Option<&'static Spec>, target: Target, conn: ConnId) -> bool {
        !self.faults.is_empty()
            && spec.is_some_and(changes)
            && self.faults.hit(FaultKind::LostAck, target, self.about, conn)
    }

    fn symbol_of(&self, params: &Params) -> Option<usize> {
        let name = params.get("symbol")?;
        self.exchange.listings.iter().position(|l| l.rules.symbol == name)
    }

    /// Publishes what a request caused, after its answer.
    pub(super) fn after_request(&mut self) {
        self.disconnect_banned();
        self.publish_reports();
        for symbol in 0..self.exchange.listings.len() {
            self.publish_listing(symbol);
        }
    }

    pub(super) fn on_http(&mut self, conn: ConnId, request: &ServerRequest) {
        if request.path.starts_with("/sim/") {
            self.on_control(conn, request);
            return;
        }
        self.counters.rest_requests += 1;
        if !self.faults.is_empty() && self.connection_faulty(conn) {
            return;
        }
        self.skew_clock(Target::Rest, Some(conn));
        self.answer_rest(conn, request);
        self.about = None;
        self.set_clock();
        self.after_request();
    }

    /// Whether a fault ended or silenced the connection of a REST request.
    fn connection_faulty(&mut self, conn: ConnId) -> bool {
        let to = Target::Rest;
        if self.faults.hit(FaultKind::Disconnect, to, None, conn)
            || self.faults.hit(FaultKind::RefuseConnect, to, None, conn)
        {
            self.server.drop_conn(conn);
            return true;
        }
        let named = |fault: &Fault| fault.target == Some(Target::Rest);
        if let Some(fault) = self.faults.strike(FaultKind::HalfOpen, to, None, conn, named) {
            self.server.half_open(conn, true);
            self.silenced.push((conn, fault.id));
            self.schedule(conn, SILENT_MAX, Outgoing::Cut);
            return true;
        }
        self.slice_new(conn, to);
        false
    }

    fn answer_rest(&mut self, conn: ConnId, request: &ServerRequest) {
        if request.path == "/api/v3/userDataStream" {
            let body = "<html>\r\n<head><title>410 Gone</title></head>\r\n<body>\r\n\
                        <center><h1>410 Gone</h1></center>\r\n<hr><center>nginx</center>\r\n\
                        </body>\r\n</html>\r\n";
            let headers = vec![("content-type".to_owned(), "text/html".to_owned())];
            let response = HttpResponse { status: 410, headers, body: body.into() };
            self.send(Target::Rest, conn, Outgoing::Http(response));
            return;
        }
        let path = request.path.strip_prefix("/api/v3/").unwrap_or_default();
        let Some(spec) = rest_spec(&request.method, path) else {
            self.respond(conn, Target::Rest, 404, "{}".to_owned(), &[]);
            return;
        };
        let failure = self.failure(Target::Rest, conn, Some(spec));
        if let Some((failure, When::Before)) = failure {
            return self.fail(conn, &failure);
        }
        let mut account = None;
        let result = self.rest_call(conn, spec, request, &mut account);
        if let Some((failure, _)) = failure {
            return self.fail(conn, &failure);
        }
        if self.loses_ack(Some(spec), Target::Rest, conn) {
            self.server.drop_conn(conn);
            return;
        }
        let mut headers = vec![("x-mbx-used-weight-1m", self.usage.weight().to_string())];
        headers.push(("x-mbx-used-weight", self.usage.weight().to_string()));
        if let (true, Some(account)) = (places(spec.call), account) {
            let (ten_seconds, day) = self.exchange.accounts[account].counts.at(self.utc);
            headers.push(("x-mbx-order-count-10s", ten_seconds.to_string()));
            headers.push(("x-mbx-order-count-1d", day.to_string()));
        }
        match result {
            Ok(body) => self.respond(conn, Target::Rest, 200, body, &headers),
            Err(refusal) => {
                self.counters.refused += 1;
                headers.extend(self.retry_after(&refusal));
                let body = wire::error(&refusal);
                self.respond(conn, Target::Rest, refusal.status, body, &headers);
            }
        }
    }

    /// The header that says when to come again.
    fn retry_after(&self, refusal: &Refusal) -> Option<(&'static str, String)> {
        let left_ms = refusal.retry_after_ms?.saturating_sub(self.utc.as_millis()).max(0);
        Some(("retry-after", ((left_ms + 999) / 1_000).to_string()))
    }

    /// Answers with a failure that a fault made.
    fn fail(&mut self, conn: ConnId, failure: &Refusal) {
        self.counters.refused += 1;
        if failure.status == 403 {
            // The firewall in front of the venue speaks HTML.
            let body = b"<html><head><title>403 Forbidden</title></head></html>".to_vec();
            let headers = vec![("content-type".to_owned(), "text/html".to_owned())];
            let response = HttpResponse { status: 403, headers, body };
            self.send(Target::Rest, conn, Outgoing::Http(response));
            return;
        }
        // Until the minute of the request weight is over.
        let retry = (60 - self.utc.as_millis().rem_euclid(60_000) / 1_000).to_string();
        let banned = matches!(failure.status, 418 | 429);
        let headers = banned.then_some(("retry-after", retry));
        self.respond(conn, Target::Rest, failure.status, wire::error(failure), headers.as_slice());
    }

    pub(super) fn rest_call(
        &mut self,
        conn: ConnId,
        spec: &Spec,
        request: &ServerRequest,
        account: &mut Option<usize>,
    ) -> Answer<String> {
        let body = std::str::from_utf8(&request.body)
            .map_err(|_| Refusal::new(-1100, "Illegal characters found in a parameter."))?;
        let unit = match request.header("x-mbx-time-unit") {
            None => TimeUnit::Millisecond,
            Some(text) => TimeUnit::named(text).ok_or_else(|| {
                let msg =
                    "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.";
                Refusal::new(-1194, msg)
            })?,
        };
        self.usage.request(&self.exchange.limits, self.utc)?;
        let params = Params::from_form(&request.query, body)?.in_unit(unit);
        self.about = self.symbol_of(&params);
        self.usage.weigh(weight(spec.call, &params), &self.exchange.limits, self.utc)?;
        if spec.security != Security::Open {
            let whose = self.keys.account(request.header("x-mbx-apikey"))?;
            let payload = rest_payload(&request.query, body);
            self.keys.check(whose, &params, Some(&payload), self.utc)?;
            *account = Some(whose);
        }
        params.check_known(spec, false)?;
        self.execute(spec.call, *account, &params, (Target::Rest, conn))
    }

    pub(super) fn respond(
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
        self.send(target, conn, Outgoing::Http(response));
    }
}

/// Whether a call asks for a new order, and so its answer tells how many there were.
fn places(call: Call) -> bool {
    matches!(call, Call::Place | Call::CancelReplace)
}

/// Whether a call changes orders.
fn changes(spec: &'static Spec) -> bool {
    spec.security == Security::Signed
        && (matches!(spec.rest.0, "POST" | "PUT" | "DELETE") && spec.call != Call::TestPlace)
}
