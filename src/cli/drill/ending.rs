//! How a drill ends, and what must be true then. In: what is expected. Out: broken promises in the stage's facts. What
//! always holds: the venue's state is the truth about orders and positions, never the engine's word.

use std::time::Duration;

use serde_json::Value;

use super::child::value_of;
use super::stage::{Facts, Halt, Stage};

/// The reaper's hard limit (design, section 5).
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(8);
/// What a process needs beyond that to be gone, on a busy machine.
const GONE_LIMIT: Duration = Duration::from_secs(1);

/// Who may have been restarted.
pub(super) enum Restarts<'a> {
    /// Nobody.
    None,
    /// This actor, once.
    Once(&'a str),
    /// This actor, as often as it likes.
    Only(&'a str),
}

/// What may be left at the venues.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Orders {
    /// No order of ours.
    None,
    /// Orders that the engine's report names.
    Listed,
    /// Nobody can tell: the venues are dead.
    Unknown,
}

/// What is expected of the end.
pub(super) struct Ending<'a> {
    /// Exit codes that keep the promise.
    pub(super) codes: &'a [i32],
    /// The time until then, from now on.
    pub(super) within: Duration,
    /// Restarts.
    pub(super) restarts: Restarts<'a>,
    /// Orders.
    pub(super) orders: Orders,
    /// What the time until then is called.
    pub(super) called: &'static str,
}

impl Ending<'_> {
    /// Drained and verified.
    pub(super) const CLEAN: Ending<'static> = Ending {
        codes: &[0],
        within: DRAIN_LIMIT,
        restarts: Restarts::None,
        orders: Orders::None,
        called: "drained in",
    };
}

impl Stage<'_> {
    /// Waits for the end and judges it.
    pub(super) fn ends(&mut self, ending: &Ending<'_>) -> Result<(), Halt> {
        let (code, took) = self.until_end(ending.within + GONE_LIMIT)?;
        self.facts.measure(ending.called, took);
        self.judge(ending, code)
    }

    /// Judges an end that has come.
    pub(super) fn judge(&mut self, ending: &Ending<'_>, code: i32) -> Result<(), Halt> {
        self.facts.promise(ending.codes.contains(&code), || {
            let expected: Vec<String> = ending.codes.iter().map(i32::to_string).collect();
            format!("exit code {code}, expected {}", expected.join(" or "))
        });
        self.judge_restarts(&ending.restarts);
        let report = self.report();
        if ending.orders != Orders::Unknown {
            let truth = self.truth()?;
            judge_orders(&mut self.facts, ending.orders, &truth, &report);
            if code == 0 {
                let names = self.setup.venues.iter().map(|v| v.name.as_str());
                judge_positions(&mut self.facts, names, &truth, &report);
            }
        }
        if code == 0 {
            let clean = report["open_orders_left"].as_array().is_some_and(Vec::is_empty);
            self.facts.promise(clean, || {
                format!(
                    "exit 0, but the report says open_orders_left {}",
                    report["open_orders_left"]
                )
            });
        }
        judge_messages(&mut self.facts, &report);
        Ok(())
    }

    fn judge_restarts(&mut self, expected: &Restarts<'_>) {
        let lines = self.log().lines().filter(|l| l.contains("event=restart.scheduled"));
        let restarted: Vec<String> =
            lines.filter_map(|l| value_of(l, "actor").map(str::to_owned)).collect();
        self.facts.restarts = restarted.len();
        let (allowed, at_most) = match expected {
            Restarts::None => ("", 0),
            Restarts::Once(actor) => (*actor, 1),
            Restarts::Only(actor) => (*actor, usize::MAX),
        };
        let mut others: Vec<&str> =
            restarted.iter().map(String::as_str).filter(|a| *a != allowed).collect();
        others.dedup();
        self.facts.promise(others.is_empty(), || format!("restarted: {}", others.join(", ")));
        let times = restarted.iter().filter(|a| *a == allowed).count();
        self.facts.promise(times <= at_most, || format!("{allowed} was restarted {times} times"));
    }
}

/// Orders that are open at the venues, by client order id.
pub(super) fn open_orders(truth: &[Value]) -> Vec<String> {
    let accounts = truth.iter().filter_map(|s| s["accounts"].as_array()).flatten();
    let orders = accounts.filter_map(|a| a["open_orders"].as_array()).flatten();
    orders.map(|o| o["clientOrderId"].as_str().unwrap_or("?").to_owned()).collect()
}

/// Orders that the venues ever took.
pub(super) fn orders_total(truth: &[Value]) -> u64 {
    let accounts = truth.iter().filter_map(|s| s["accounts"].as_array()).flatten();
    accounts.filter_map(|a| a["orders_total"].as_u64()).sum()
}

/// No order was sent twice: no venue took two of one id, nor more than the engine says that it sent. For an engine
/// that was started once and had no order sender restarted.
pub(super) fn judge_sent_once(facts: &mut Facts, truth: &[Value], report: &Value) {
    let (taken, sent) = (orders_total(truth), report["orders"]["sent"].as_u64());
    facts.promise(sent.is_some_and(|sent| taken <= sent), || {
        format!("the venues took {taken} orders, the engine sent {}", report["orders"]["sent"])
    });
    for account in truth.iter().filter_map(|s| s["accounts"].as_array()).flatten() {
        let orders = account["orders"].as_array().into_iter().flatten();
        let mut ids: Vec<&str> = orders.filter_map(|o| o["clientOrderId"].as_str()).collect();
        ids.sort_unstable();
        let twice = ids.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        facts.promise(twice.is_none(), || {
            format!("order {} was sent twice", twice.unwrap_or_default())
        });
    }
}

fn judge_orders(facts: &mut Facts, expected: Orders, truth: &[Value], report: &Value) {
    let mut open = open_orders(truth);
    facts.orders_left = Some(open.len());
    if expected == Orders::Listed {
        let listed = report["open_orders_left"].to_string();
        open.retain(|id| !listed.contains(&format!("\"{id}\"")));
    }
    let how = if expected == Orders::Listed { " and not listed" } else { "" };
    facts.promise(open.is_empty(), || {
        format!("orders left open at the venue{how}: {}", open.join(", "))
    });
}

/// Engine and venue agree on every position.
fn judge_positions<'a>(
    facts: &mut Facts,
    venues: impl Iterator<Item = &'a str>,
    truth: &[Value],
    report: &Value,
) {
    let reported = report["positions"].as_array().map_or(&[][..], Vec::as_slice);
    for (venue, state) in venues.zip(truth) {
        let positions = state["accounts"][0]["positions"].as_array().map_or(&[][..], Vec::as_slice);
        for theirs in positions {
            let ours = reported
                .iter()
                .find(|p| p["venue"] == venue && p["symbol"] == theirs["symbol"])
                .map_or(&Value::Null, |p| &p["qty"]);
            let same = *ours == theirs["qty"] || (ours.is_null() && is_zero(&theirs["qty"]));
            facts.promise(same, || {
                let symbol = &theirs["symbol"];
                format!("position of {symbol}: {ours} here, {} at {venue}", theirs["qty"])
            });
        }
    }
}

fn is_zero(decimal: &Value) -> bool {
    decimal.as_str().is_some_and(|text| text.bytes().all(|b| matches!(b, b'0' | b'.')))
}

/// No message is unaccounted for: sent = handled + refused + dropped + conflated + lost in flight + left.
fn judge_messages(facts: &mut Facts, report: &Value) {
    for (edge, counts) in report["messages"].as_object().into_iter().flatten() {
        let n = |key: &str| counts[key].as_u64().unwrap_or(0);
        let ends = ["handled", "refused", "dropped", "conflated", "lost_in_flight", "left"];
        let accounted: u64 = ends.into_iter().map(n).sum();
        facts.promise(n("sent") == accounted, || {
            format!("messages of {edge}: {} sent, {accounted} accounted for", n("sent"))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn venue(open: &[&str], qty: &str) -> Value {
        let open: Vec<Value> = open.iter().map(|id| json!({"clientOrderId": id})).collect();
        json!({"accounts": [{"open_orders": open, "positions": [{"symbol": "BTCUSDT", "qty": qty}]}]})
    }

    #[track_caller]
    fn check_orders(expected: Orders, open: &[&str], listed: &[&str], wrong: usize) {
        let mut facts = Facts::default();
        let report = json!({"open_orders_left": listed});
        judge_orders(&mut facts, expected, &[venue(open, "0")], &report);
        assert_eq!(facts.wrong.len(), wrong, "{:?}", facts.wrong);
        assert_eq!(facts.orders_left, Some(open.len()));
    }

    #[test]
    fn an_order_left_breaks_the_promise_unless_it_is_listed() {
        check_orders(Orders::None, &[], &[], 0);
        check_orders(Orders::None, &["a-1"], &["a-1"], 1);
        check_orders(Orders::Listed, &["a-1"], &["a-1", "a-2"], 0);
        check_orders(Orders::Listed, &["a-1"], &["a-11"], 1);
    }

    #[track_caller]
    fn check_sent_once(taken: &[&str], sent: Value, wrong: usize) {
        let mut facts = Facts::default();
        let orders: Vec<Value> = taken.iter().map(|id| json!({"clientOrderId": id})).collect();
        let venue = json!({"accounts": [{"orders_total": taken.len(), "orders": orders}]});
        judge_sent_once(&mut facts, &[venue], &json!({"orders": {"sent": sent}}));
        assert_eq!(facts.wrong.len(), wrong, "{:?}", facts.wrong);
    }

    #[test]
    fn an_order_sent_twice_is_found() {
        // A venue does not take what it rejects.
        check_sent_once(&["a-1", "a-2"], json!(3), 0);
        check_sent_once(&["a-1", "a-2", "a-3"], json!(2), 1);
        check_sent_once(&["a-1", "a-2", "a-1"], json!(3), 1);
        check_sent_once(&[], Value::Null, 1);
    }

    #[track_caller]
    fn check_position(ours: Value, theirs: &str, wrong: usize) {
        let mut facts = Facts::default();
        let report = json!({"positions": ours});
        judge_positions(&mut facts, ["north"].into_iter(), &[venue(&[], theirs)], &report);
        assert_eq!(facts.wrong.len(), wrong, "{:?}", facts.wrong);
    }

    #[test]
    fn engine_and_venue_must_agree_on_positions() {
        let ours = |qty: &str| json!([{"venue": "north", "symbol": "BTCUSDT", "qty": qty}]);
        check_position(ours("0.10000000"), "0.10000000", 0);
        check_position(ours("0.10000000"), "0.20000000", 1);
        check_position(json!([]), "0.00000000", 0);
        check_position(json!([]), "0.20000000", 1);
    }

    #[test]
    fn every_message_is_accounted_for() {
        let check = |handled: u64, wrong: usize| {
            let mut facts = Facts::default();
            let edge = json!({"sent": 5, "handled": handled, "dropped": 1});
            judge_messages(&mut facts, &json!({"messages": {"a->b": edge}}));
            assert_eq!(facts.wrong.len(), wrong, "{:?}", facts.wrong);
        };
        check(4, 0);
        check(3, 1);
    }
}
