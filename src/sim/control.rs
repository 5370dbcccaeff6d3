//! `/sim`: the truth that a test compares an engine with, faults on demand, moving the market.

use std::time::Duration;

use serde::Deserialize;

use crate::clock::UtcNs;
use crate::net::HttpResponse;
use crate::net::server::{ConnId, ServerRequest};

use super::exchange::Exchange;
use super::faults::{Fault, FaultKind, Halt, Target};
use super::json::{Json, parse_decimal};
use super::listing::{Liquidity, PRICE_MAX};
use super::outbound::Outgoing;
use super::session::Session;
use super::streams::stamp;
use super::venue::{Snapshot, Venue};
use super::wire;

/// Orders and fills shown per account when the request names no limit.
pub(super) const HISTORY_SHOWN: usize = 10_000;

/// Points of a path.
const PATH_MAX: usize = 10_000;

/// Longest path: a day.
const PATH_MS_MAX: u64 = 86_400_000;

/// What `/sim/market` asks for: a mid now, or a path of milliseconds from now and mids.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveRequest {
    symbol: String,
    mid: Option<serde_json::Value>,
    path: Option<Vec<(u64, serde_json::Value)>>,
}

/// Writes accounts, symbols and sequence numbers into an open object; at most `limit` orders and fills per account.
fn exchange(j: &mut Json, exchange: &Exchange, limit: usize) {
    j.key("accounts").arr(|j| {
        for account in 0..exchange.accounts.len() {
            j.obj(|j| one_account(j, exchange, account, limit));
        }
    });
    j.key("symbols").arr(|j| {
        for listing in &exchange.listings {
            let top = listing.top();
            j.obj(|j| {
                j.f_text("symbol", &listing.rules.symbol)
                    .f_int("lastUpdateId", listing.update_id())
                    .f_dec("last_price", listing.last_price)
                    .f_int("next_trade_id", listing.next_trade_id());
                for (name, qty_name, level) in
                    [("bid", "bid_qty", top.bid), ("ask", "ask_qty", top.ask)]
                {
                    if let Some((price, qty)) = level {
                        j.f_dec(name, price).f_dec(qty_name, qty);
                    }
                }
                if let Liquidity::Recorded(recorded) = &listing.liquidity {
                    j.f_int("recording_gaps", recorded.gaps);
                }
            });
        }
    });
    j.key("totals").arr(|j| {
        for (at, asset) in exchange.assets.iter().enumerate() {
            j.obj(|j| {
                j.f_text("asset", asset)
                    .f_dec("fees", exchange.fees[at])
                    .f_dec("market_gain", exchange.market_gain[at]);
            });
        }
    });
    let (order, exec, _) = exchange.sequences();
    j.key("sequences").obj(|j| {
        j.f_int("next_order_id", order).f_int("next_execution_id", exec);
    });
}

fn one_account(j: &mut Json, exchange: &Exchange, at: usize, limit: usize) {
    let account = &exchange.accounts[at];
    j.f_text("name", &account.name);
    j.key("balances").arr(|j| {
        for (asset, held) in exchange.assets.iter().zip(&account.holdings) {
            j.obj(|j| {
                j.f_text("asset", asset)
                    .f_dec("free", held.free)
                    .f_dec("locked", held.locked)
                    .f_dec("total", held.free + held.locked)
                    .f_dec("initial", held.initial);
            });
        }
    });
    j.key("positions").arr(|j| {
        for listing in &exchange.listings {
            let held = account.holdings[listing.base];
            j.obj(|j| {
                j.f_text("symbol", &listing.rules.symbol)
                    .f_dec("qty", held.free + held.locked - held.initial);
            });
        }
    });
    j.key("open_orders").arr(|j| {
        for order in account.open_orders() {
            wire::order(j, &exchange.listings[order.asked.symbol], order);
        }
    });
    let (orders, fills) = (account.orders().count(), account.fills().len());
    j.f_int("orders_total", orders as u64 + account.forgotten_orders)
        .f_int("fills_total", fills as u64 + account.forgotten_fills);
    j.key("orders").arr(|j| {
        for order in account.orders().skip(orders.saturating_sub(limit)) {
            wire::order(j, &exchange.listings[order.asked.symbol], order);
        }
    });
    j.key("fills").arr(|j| {
        for fill in account.fills().iter().skip(fills.saturating_sub(limit)) {
            wire::my_trade(j, exchange, fill);
        }
    });
}

impl Venue {
    pub(super) fn on_control(&mut self, conn: ConnId, request: &ServerRequest) {
        let (status, body) = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/sim/state") => {
                let limit = request.query.split('&').find_map(|pair| pair.strip_prefix("limit="));
                let limit = limit.and_then(|l| l.parse().ok()).unwrap_or(HISTORY_SHOWN);
                (200, self.state_json(limit))
            }
            ("POST", "/sim/faults") => self.add_fault(&request.body),
            ("DELETE", "/sim/faults") => {
                self.faults.clear();
                self.end_faults();
                self.release_held();
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

    pub(super) fn add_fault(&mut self, body: &[u8]) -> (u16, String) {
        let fault = match self.faults.add(body, self.now) {
            Ok(fault) => fault,
            Err(why) => return (400, error_text(&why)),
        };
        self.strike_now(&fault);
        let answer = Json::object(|j| {
            j.f_int("id", fault.id);
        });
        (200, answer)
    }

    /// What a fault does the moment it comes.
    fn strike_now(&mut self, fault: &Fault) {
        self.set_statuses();
        if fault.kind == FaultKind::StaleSnapshot {
            self.stale = Some(self.exchange.listings.iter().map(Snapshot::of).collect());
        }
        let ends = match fault.kind {
            FaultKind::Disconnect => !fault.lasts(),
            FaultKind::ServerShutdown => true,
            FaultKind::HalfOpen | FaultKind::Slice => false,
            _ => return,
        };
        if fault.target == Some(Target::Rest) {
            return;
        }
        let open = self.connections_of(fault.target);
        for conn in self.faults.strike_open(fault.id, open, ends) {
            match fault.kind {
                FaultKind::Disconnect => self.server.drop_conn(conn),
                FaultKind::HalfOpen => {
                    self.server.half_open(conn, true);
                    self.silenced.push((conn, fault.id));
                }
                FaultKind::Slice => {
                    self.server.slice(conn, true);
                    self.sliced.push((conn, fault.id));
                }
                _ => self.shut_down(conn, fault.latency),
            }
        }
    }

    fn set_statuses(&mut self) {
        for (at, listing) in self.exchange.listings.iter_mut().enumerate() {
            listing.status = self.faults.halt(at).map_or("TRADING", Halt::label);
        }
    }

    /// Announces to a client that the server goes, and goes `after` that.
    fn shut_down(&mut self, conn: ConnId, after: Duration) {
        let event = |micros: bool| {
            Json::object(|j| {
                j.f_text("e", "serverShutdown").f_int("E", stamp(self.utc, micros));
            })
        };
        let text = match self.sessions.get(&conn) {
            Some(session) => Json::object(|j| {
                j.f_raw("event", &event(session.micros));
            }),
            None => self.streams.notice(conn, "!serverShutdown", event),
        };
        self.send_now(conn, Outgoing::Text(text.into()));
        self.schedule(conn, after, Outgoing::Close(1001, "Server shutdown"));
    }

    /// Undoes what faults that are over have done.
    pub(super) fn end_faults(&mut self) {
        self.set_statuses();
        // A connection speaks again when the last fault is over that keeps it silent.
        let over = |(_, fault): &mut (ConnId, u64)| !self.faults.is_active(*fault);
        let silenced: Vec<_> = self.silenced.extract_if(.., over).collect();
        let sliced: Vec<_> = self.sliced.extract_if(.., over).collect();
        for (conn, _) in silenced {
            self.server.half_open(conn, self.is_silenced(conn));
        }
        for (conn, _) in sliced {
            self.server.slice(conn, self.sliced.iter().any(|(other, _)| *other == conn));
        }
        if !self.faults.any(FaultKind::StaleSnapshot) {
            self.stale = None;
        }
    }

    pub(super) fn connections_of(&self, target: Option<Target>) -> Vec<ConnId> {
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

    pub(super) fn move_market(&mut self, body: &[u8]) -> (u16, String) {
        let request: MoveRequest = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(e) => return (400, error_text(&e.to_string())),
        };
        match self.try_move(&request) {
            Ok(()) => (200, "{}".to_owned()),
            Err(why) => (400, error_text(&why)),
        }
    }

    fn try_move(&mut self, request: &MoveRequest) -> Result<(), String> {
        let listings = &self.exchange.listings;
        let at =
            listings.iter().position(|l| l.rules.symbol == request.symbol).ok_or_else(|| {
                let known: Vec<&str> = listings.iter().map(|l| l.rules.symbol.as_str()).collect();
                format!("symbol {}: expected one of {}", request.symbol, known.join(", "))
            })?;
        let market = self.markets.get_mut(at).ok_or("a recording cannot be moved")?;
        match (&request.mid, &request.path) {
            (Some(mid), None) => market.jump(&mut self.exchange, price(mid)?, self.utc),
            (None, Some(path)) => market.lead(&points(path)?, self.now),
            _ => return Err("expected either mid, or path with [ms, mid] pairs".to_owned()),
        }
        self.publish_listing(at);
        self.publish_reports();
        Ok(())
    }

    pub(super) fn state_json(&self, limit: usize) -> String {
        Json::object(|j| {
            j.f_text("name", &self.name)
                .f_text("version", env!("CARGO_PKG_VERSION"))
                .f_int("time", self.utc.as_millis())
                .f_int("latency_us", u64::try_from(self.latency.as_micros()).unwrap_or(u64::MAX));
            exchange(j, &self.exchange, limit);
            self.connections_json(j);
            self.usage_json(j);
            self.market_json(j);
            j.key("counters").obj(|j| {
                let c = &self.counters;
                j.f_int("rest_requests", c.rest_requests)
                    .f_int("ws_api_requests", c.api_requests)
                    .f_int("stream_messages", c.stream_messages)
                    .f_int("frames_sent", c.frames_sent)
                    .f_int("refused", c.refused)
                    .f_int("delayed_dropped", c.delayed_dropped)
                    .f_int("slow_dropped", c.slow_dropped)
                    .f_int("aged_out", c.aged_out);
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

    fn connections_json(&self, j: &mut Json) {
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
            let subscribed = self.sessions.values().map(|s| s.subscriptions().len()).sum::<usize>();
            j.f_int("user_data", subscribed);
            j.f_int("made_in_5_min", self.connects.len())
                .f_int("made_in_5_min_max", self.connections.connects_max);
            j.key("open").arr(|j| {
                for (conn, (_, utc)) in &self.opened_at {
                    j.obj(|j| self.connection_json(j, *conn, *utc));
                }
            });
            j.key("ended").arr(|j| {
                for ended in &self.ended {
                    j.obj(|j| {
                        j.f_int("id", ended.conn.0)
                            .f_text("transport", ended.transport)
                            .f_int("time", ended.utc.as_millis())
                            .f_text("why", &ended.why);
                    });
                }
            });
        });
    }

    fn connection_json(&self, j: &mut Json, conn: ConnId, opened: UtcNs) {
        let session = self.sessions.get(&conn);
        let target = if session.is_some() { Target::WsApi } else { Target::Stream };
        j.f_int("id", conn.0)
            .f_text("transport", target.label())
            .f_int("opened", opened.as_millis())
            .f_int("unread_bytes", self.server.buffered(conn))
            .f_flag("silenced", self.is_silenced(conn));
        j.key("listens_to").arr(|j| {
            for subscription in session.map_or(&[][..], Session::subscriptions) {
                j.text(&self.exchange.accounts[subscription.account].name);
            }
            let streams = self.streams.connections().find(|(of, _)| *of == conn);
            for name in streams.map_or(&[][..], |(_, names)| names) {
                j.text(name);
            }
        });
    }

    fn usage_json(&self, j: &mut Json) {
        j.key("rate_limits").obj(|j| {
            let limits = &self.exchange.limits;
            j.f_int("weight_1m", self.usage.weight())
                .f_int("weight_1m_max", limits.weight_per_minute);
            j.key("orders").arr(|j| {
                for account in &self.exchange.accounts {
                    let (ten_seconds, day) = account.counts.at(self.utc);
                    j.obj(|j| {
                        j.f_text("account", &account.name)
                            .f_int("orders_10s", ten_seconds)
                            .f_int("orders_1d", day);
                    });
                }
            });
        });
    }

    fn market_json(&self, j: &mut Json) {
        let (seed, market_seed) = self.seeds;
        j.key("market").obj(|j| {
            j.f_int("seed", seed).f_int("market_seed", market_seed);
            j.key("symbols").arr(|j| {
                for (at, (market, listing)) in
                    self.markets.iter().zip(&self.exchange.listings).enumerate()
                {
                    let (phase, fair) = market.phase();
                    let halt = self.faults.halt(at).map_or("TRADING", Halt::label);
                    j.obj(|j| {
                        j.f_text("symbol", &listing.rules.symbol)
                            .f_text("status", halt)
                            .f_text("phase", phase)
                            .f_dec("fair", fair);
                    });
                }
            });
        });
    }
}

fn error_text(why: &str) -> String {
    Json::object(|j| {
        j.f_text("error", why);
    })
}

/// A price as text or number.
fn price(value: &serde_json::Value) -> Result<i64, String> {
    let price = match value {
        serde_json::Value::String(text) => parse_decimal(text),
        serde_json::Value::Number(number) => parse_decimal(&number.to_string()),
        _ => None,
    };
    let range = "mid: expected a number above 0 and up to 1000000";
    price.filter(|price| (1..=PRICE_MAX).contains(price)).ok_or_else(|| range.to_owned())
}

/// The points of a path, in order.
fn points(path: &[(u64, serde_json::Value)]) -> Result<Vec<(Duration, i64)>, String> {
    if path.is_empty() || path.len() > PATH_MAX {
        return Err(format!("path: expected 1 to {PATH_MAX} points"));
    }
    if !path.is_sorted_by_key(|(ms, _)| *ms) || path.iter().any(|(ms, _)| *ms > PATH_MS_MAX) {
        return Err(format!("path: times must not go back, nor beyond {PATH_MS_MAX} ms"));
    }
    path.iter().map(|(ms, mid)| Ok((Duration::from_millis(*ms), price(mid)?))).collect()
}
