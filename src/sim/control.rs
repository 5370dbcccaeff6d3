//! `/sim`: the truth that a test compares an engine with, faults on demand, moving the market.

use crate::net::HttpResponse;
use crate::net::server::{ConnId, ServerRequest};

use super::exchange::Exchange;
use super::faults::{FaultKind, Faults, Target};
use super::json::{Json, parse_decimal};
use super::listing::{Liquidity, PRICE_MAX};
use super::outbound::Outgoing;
use super::venue::Venue;
use super::wire;

/// Orders and fills shown per account when the request names no limit.
pub(super) const HISTORY_SHOWN: usize = 10_000;

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

    pub(super) fn add_fault(&mut self, body: &[u8]) -> (u16, String) {
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

    pub(super) fn speak_again(&mut self) {
        for conn in std::mem::take(&mut self.silenced) {
            self.server.half_open(conn, false);
        }
    }

    pub(super) fn move_market(&mut self, body: &[u8]) -> (u16, String) {
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
        let Some((at, mid)) = at.zip(mid.filter(|mid| (1..=PRICE_MAX).contains(mid))) else {
            return (
                400,
                error_text("expected a known symbol and a mid above 0 and up to 1000000"),
            );
        };
        let Some(market) = self.markets.get_mut(at) else {
            return (400, error_text("a recording cannot be moved"));
        };
        market.jump(&mut self.exchange, mid, self.utc);
        self.publish_listing(at);
        self.publish_reports();
        (200, "{}".to_owned())
    }

    pub(super) fn state_json(&self, limit: usize) -> String {
        Json::object(|j| {
            j.f_int("time", self.utc.as_millis());
            exchange(j, &self.exchange, limit);
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
