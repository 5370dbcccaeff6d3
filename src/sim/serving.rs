//! Requests on all three transports. In: what the server's connections say. Out: answers, and then what they caused.

use crate::net::HttpResponse;
use crate::net::server::{ConnId, ServerEvent, ServerRequest};

use super::api;
use super::calls::{Call, Security, Spec, rest_spec, weight};
use super::faults::{FaultKind, Target};
use super::json::Json;
use super::outbound::Outgoing;
use super::refusal::{Answer, Refusal};
use super::request::{Params, rest_payload};
use super::session::{self, Session, SessionRequest};
use super::venue::Venue;
use super::wire;

/// Server events handled in one turn.
const EVENTS_PER_TURN: usize = 64;

/// Whether a call places an order, and so its answer tells how many there were.
fn counts_orders(call: Option<Call>) -> bool {
    matches!(call, Some(Call::Place | Call::CancelReplace))
}

impl Venue {
    pub(super) fn serve(&mut self) -> bool {
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
                    self.busy_until.remove(&conn);
                }
                // No dialect of ours has binary messages.
                ServerEvent::Binary { conn } => self.server.close(conn, 1003, "text only"),
            }
        }
        true
    }

    pub(super) fn on_upgrade(&mut self, conn: ConnId, request: &ServerRequest) {
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

    pub(super) fn on_text(&mut self, conn: ConnId, text: &str) {
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

    pub(super) fn on_api_text(&mut self, conn: ConnId, text: &str) {
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
        let orders = account.filter(|_| counts_orders(call));
        let told = session::Told {
            limits: self.exchange.limits,
            weight: self.usage.weight(),
            orders: orders.map(|a| self.exchange.accounts[a].counts.at(self.utc)),
        };
        let told = request.limits.unwrap_or(by_default).then_some(told);
        if !self.loses_ack(call, Target::WsApi) {
            let answer = session::envelope(&request.id, &result, told, self.utc);
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
        self.execute(spec.call, *account, params, Target::WsApi).map(|result| (result, Vec::new()))
    }

    /// Does a call that is the same on both transports.
    pub(super) fn execute(
        &mut self,
        call: Call,
        account: Option<usize>,
        params: &Params,
        target: Target,
    ) -> Answer<String> {
        if counts_orders(Some(call))
            && !self.faults.is_empty()
            && self.faults.hit(FaultKind::Reject, target, None)
        {
            return Err(Refusal::order("This action is disabled on this account."));
        }
        api::execute(&mut self.exchange, call, account, params, self.utc)
    }

    pub(super) fn loses_ack(&mut self, call: Option<Call>, target: Target) -> bool {
        !self.faults.is_empty()
            && matches!(
                call,
                Some(Call::Place | Call::Cancel | Call::CancelAll | Call::CancelReplace)
            )
            && self.faults.hit(FaultKind::LostAck, target, None)
    }

    /// Publishes what a request caused, after its answer.
    pub(super) fn after_request(&mut self) {
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
            let mut headers = vec![("x-mbx-used-weight-1m", self.usage.weight().to_string())];
            headers.push(("x-mbx-used-weight", self.usage.weight().to_string()));
            if let (true, Some(account)) = (counts_orders(Some(spec.call)), account) {
                let (ten_seconds, day) = self.exchange.accounts[account].counts.at(self.utc);
                headers.push(("x-mbx-order-count-10s", ten_seconds.to_string()));
                headers.push(("x-mbx-order-count-1d", day.to_string()));
            }
            match result {
                Ok(body) => self.respond(conn, Target::Rest, 200, body, &headers),
                Err(refusal) => {
                    self.counters.refused += 1;
                    if let Some(until_ms) = refusal.retry_after_ms {
                        let left_ms = until_ms.saturating_sub(self.utc.as_millis()).max(0);
                        headers.push(("retry-after", ((left_ms + 999) / 1_000).to_string()));
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

    pub(super) fn rest_call(
        &mut self,
        spec: &Spec,
        request: &ServerRequest,
        account: &mut Option<usize>,
    ) -> Answer<String> {
        let body = std::str::from_utf8(&request.body)
            .map_err(|_| Refusal::new(-1100, "Illegal characters found in a parameter."))?;
        let params = Params::from_form(&request.query, body)?;
        self.usage.weigh(weight(spec.call, &params), &self.exchange.limits, self.utc)?;
        if spec.security != Security::Open {
            let whose = self.keys.account(request.header("x-mbx-apikey"))?;
            let payload = rest_payload(&request.query, body);
            self.keys.check(whose, &params, Some(&payload), self.utc)?;
            *account = Some(whose);
        }
        params.check_known(spec, false)?;
        self.execute(spec.call, *account, &params, Target::Rest)
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
        self.send_later(target, conn, Outgoing::Http(response));
    }
}
