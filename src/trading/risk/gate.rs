//! The risk gate: a new order goes in, [`Approved`] or a named refusal comes out.
//!
//! The checks run in this order, and the first that fails names the refusal:
//!
//! | # | check | reason |
//! |---|---|---|
//! | 1 | the engine does not drain | `Draining` |
//! | 2 | kill switch not tripped, no fence up | `KillSwitch` |
//! | 3 | the journal takes records | `JournalDown` |
//! | 4 | the order session is live | `SessionDown` |
//! | 5 | rules and limits known, the venue trades the instrument | `NotTrading` |
//! | 6 | the book is live, has both sides, and the touch is at most `book_age_max` old | `BookState` |
//! | 7 | the update decided on was read at most `decision_age_max` ago | `DecisionAge` |
//! | 8 | price on the tick, within the venue's bounds | `PriceStep` |
//! | 9 | quantity above 0, on the lot, within the venue's bounds and `order_qty_max` | `Quantity` |
//! | 10 | price times quantity within the venue's minimum and `order_notional_max` | `Notional` |
//! | 11 | price at most `price_collar_bps` from the middle | `PriceCollar` |
//! | 12 | position + working orders on that side + this order within `position_max` | `Position` |
//! | 13 | open orders, this one included, within `open_orders_max` | `OpenOrders` |
//! | 14 | orders of the last second, this one included, within `orders_per_s_max` | `OrderRate` |
//!
//! A market order has no price of its own: 8 and 11 do not apply, 10 takes the touch it would hit. Cancels never
//! come here: they always pass. No allocation, no lock, no clock: a few dozen compares.

use std::time::Duration;

use crate::clock::MonoNs;
use crate::trading::domain::{
    BookState, Instrument, NewOrder, OrderKind, Price, Qty, Reason, Rules, Side, SignedQty,
    TopOfBook,
};

use super::kill_switch::TradingState;
use super::limits::Limits;

/// Hundredths of a percent in one whole.
const BPS: i128 = 10_000;

/// An order that the gate has let through. There is one constructor, private to this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approved<T>(T);

impl<T> Approved<T> {
    /// What was approved.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// Only for tests of encoders, which need something approved to encode.
    #[cfg(test)]
    pub(crate) fn for_encoder_test(value: T) -> Self {
        Self(value)
    }
}

/// Everything the verdict depends on besides the order and the limits.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The time of this turn.
    pub now: MonoNs,
    /// When the update that the order answers was read.
    pub recv: MonoNs,
    /// Whether the engine drains.
    pub draining: bool,
    /// Kill switch and fences.
    pub trading: TradingState,
    /// Whether the journal takes records.
    pub journal_up: bool,
    /// Whether the order session is live.
    pub session_live: bool,
    /// What the order is in, with the venue's rules once they are known.
    pub instrument: &'a Instrument,
    /// The newest touch, if there was one.
    pub top: Option<&'a TopOfBook>,
    /// What is held.
    pub position: SignedQty,
    /// What working orders may still buy, orders of unknown fate included.
    pub working_buy: Qty,
    /// What working orders may still sell, orders of unknown fate included.
    pub working_sell: Qty,
    /// Open orders of the account, orders of unknown fate included.
    pub open_orders: usize,
    /// Whether the throttle lets one more order pass.
    pub rate_has_room: bool,
}

/// The limits of every instrument, and the checks.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// By instrument index; `None` where this venue trades nothing.
    limits: Vec<Option<Limits>>,
}

impl Gate {
    /// A gate with the limits of each instrument, by instrument index. Without limits nothing passes.
    pub fn new(limits: Vec<Option<Limits>>) -> Self {
        Self { limits }
    }

    /// The limits of an instrument.
    pub fn limits(&self, instrument: &Instrument) -> Option<&Limits> {
        self.limits.get(instrument.id.index())?.as_ref()
    }

    /// Judges `order` in the situation `at`.
    ///
    /// # Errors
    /// The reason of the first check that failed, in the order of the module's table.
    pub fn check(
        &self,
        order: &NewOrder,
        at: &Situation<'_>,
    ) -> Result<Approved<NewOrder>, Reason> {
        let (limits, rules) = self.check_permission(at)?;
        let mid = check_market(limits, at)?;
        let price = check_terms(order, limits, rules, at)?;
        if order.kind != OrderKind::Market {
            require(within_collar(price, mid, limits.price_collar_bps), Reason::PriceCollar)?;
        }
        require(within_position(order, limits.position_max, at), Reason::Position)?;
        require(at.open_orders < limits.open_orders_max as usize, Reason::OpenOrders)?;
        require(at.rate_has_room, Reason::OrderRate)?;
        Ok(Approved(*order))
    }

    /// Checks 1 to 5: may anything be sent at all?
    fn check_permission<'a>(
        &'a self,
        at: &Situation<'a>,
    ) -> Result<(&'a Limits, &'a Rules), Reason> {
        require(!at.draining, Reason::Draining)?;
        require(at.trading.enabled(), Reason::KillSwitch)?;
        require(at.journal_up, Reason::JournalDown)?;
        require(at.session_live, Reason::SessionDown)?;
        let limits = self.limits(at.instrument).ok_or(Reason::NotTrading)?;
        let rules = at.instrument.rules().filter(|r| r.trading).ok_or(Reason::NotTrading)?;
        Ok((limits, rules))
    }
}

fn require(holds: bool, reason: Reason) -> Result<(), Reason> {
    if holds { Ok(()) } else { Err(reason) }
}

/// Checks 6 and 7: is the decision based on a book that may be believed? Gives the middle.
fn check_market(limits: &Limits, at: &Situation<'_>) -> Result<Price, Reason> {
    let top = at.top.filter(|t| t.state == BookState::Live).ok_or(Reason::BookState)?;
    let mid = top.mid().ok_or(Reason::BookState)?;
    require(young(at.now, top.stamps.recv, limits.book_age_max), Reason::BookState)?;
    require(young(at.now, at.recv, limits.decision_age_max), Reason::DecisionAge)?;
    Ok(mid)
}

fn young(now: MonoNs, then: MonoNs, limit: Duration) -> bool {
    now.since(then) <= limit
}

/// Checks 8 to 10: does the order suit the venue's rules and our sizes? Gives the price to reckon with.
fn check_terms(
    order: &NewOrder,
    limits: &Limits,
    rules: &Rules,
    at: &Situation<'_>,
) -> Result<Price, Reason> {
    let price = if order.kind == OrderKind::Market {
        let touch = at.top.and_then(|t| if order.side == Side::Buy { t.ask } else { t.bid });
        touch.ok_or(Reason::BookState)?.price
    } else {
        require(price_fits(order.price, rules), Reason::PriceStep)?;
        order.price
    };
    let qty_fits = order.qty > Qty::ZERO
        && order.qty >= rules.qty_min
        && (rules.qty_max.is_zero() || order.qty <= rules.qty_max)
        && order.qty <= limits.order_qty_max
        && rules.floor_qty(order.qty) == order.qty;
    require(qty_fits, Reason::Quantity)?;
    let notional = price.times(order.qty);
    let notional_fits = notional >= rules.notional_min && notional <= limits.order_notional_max;
    require(notional_fits, Reason::Notional)?;
    Ok(price)
}

fn price_fits(price: Price, rules: &Rules) -> bool {
    price > Price::ZERO
        && price >= rules.price_min
        && (rules.price_max.is_zero() || price <= rules.price_max)
        && rules.floor_price(price) == price
}

/// Whether |price - mid| / mid is at most `bps` hundredths of a percent, without a division.
fn within_collar(price: Price, mid: Price, bps: u32) -> bool {
    let distance = i128::from(price.units().abs_diff(mid.units()));
    distance * BPS <= i128::from(mid.units()) * i128::from(bps)
}

/// Whether the position stays within `max` if everything on the order's side that works, and the order, fills.
fn within_position(order: &NewOrder, max: Qty, at: &Situation<'_>) -> bool {
    let working = if order.side == Side::Buy { at.working_buy } else { at.working_sell };
    let held = i128::from(at.position.units()) * i128::from(order.side.sign());
    held + i128::from(working.units()) + i128::from(order.qty.units()) <= i128::from(max.units())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trading::domain::instrument::Name;
    use crate::trading::domain::{InstrumentId, Level, Notional, Stamps, TimeInForce, VenueId};

    const NOW: MonoNs = MonoNs::from_millis(10_000);

    fn instrument(trading: bool) -> Instrument {
        let name = |text| Name::from(text).expect("short");
        let it =
            Instrument::new(InstrumentId(0), VenueId(0), name("binance"), name("BTCUSDT"), (2, 3));
        it.set_rules(Rules {
            base: name("BTC"),
            quote: name("USDT"),
            tick: Price::from_units(10),
            price_min: Price::from_units(100),
            price_max: Price::from_units(1_000_000),
            lot: Qty::from_units(2),
            qty_min: Qty::from_units(4),
            qty_max: Qty::from_units(1_000),
            notional_min: Notional::from_units(50_000),
            trading,
        });
        it
    }

    fn limits() -> Limits {
        Limits {
            order_qty_max: Qty::from_units(100),
            order_notional_max: Notional::from_units(1_000_000),
            position_max: Qty::from_units(200),
            open_orders_max: 3,
            orders_per_s_max: 5,
            price_collar_bps: 100,
            book_age_max: Duration::from_millis(500),
            decision_age_max: Duration::from_millis(50),
        }
    }

    fn top() -> TopOfBook {
        let level =
            |price| Some(Level { price: Price::from_units(price), qty: Qty::from_units(5) });
        TopOfBook {
            state: BookState::Live,
            bid: level(9_990),
            ask: level(10_010),
            stamps: Stamps { recv: MonoNs::from_millis(9_990), ..Stamps::default() },
            ..TopOfBook::default()
        }
    }

    fn order() -> NewOrder {
        NewOrder {
            instrument: InstrumentId(0),
            side: Side::Buy,
            kind: OrderKind::Limit,
            tif: TimeInForce::Gtc,
            price: Price::from_units(10_000),
            qty: Qty::from_units(10),
        }
    }

    fn situation<'a>(instrument: &'a Instrument, top: &'a TopOfBook) -> Situation<'a> {
        Situation {
            now: NOW,
            recv: MonoNs::from_millis(9_990),
            draining: false,
            trading: TradingState::default(),
            journal_up: true,
            session_live: true,
            instrument,
            top: Some(top),
            position: SignedQty::ZERO,
            working_buy: Qty::ZERO,
            working_sell: Qty::ZERO,
            open_orders: 0,
            rate_has_room: true,
        }
    }

    /// Runs the gate on the model order after `change` has bent order, touch and situation.
    #[track_caller]
    fn check(
        what: &str,
        expect: Option<Reason>,
        change: impl FnOnce(&mut NewOrder, &mut TopOfBook, &mut Situation<'_>),
    ) {
        let instrument = instrument(true);
        let (mut order, mut touch, unused) = (order(), top(), top());
        let mut at = situation(&instrument, &unused);
        change(&mut order, &mut touch, &mut at);
        let at = Situation { top: at.top.map(|_| &touch), ..at };
        let verdict = Gate::new(vec![Some(limits())]).check(&order, &at);
        assert_eq!(verdict.err(), expect, "{what}");
    }

    fn ms(ms: u64) -> MonoNs {
        MonoNs::from_millis(ms)
    }

    #[test]
    fn the_model_order_passes() {
        check("model", None, |_, _, _| {});
    }

    #[test]
    fn permission() {
        check("draining", Some(Reason::Draining), |_, _, at| at.draining = true);
        check("tripped", Some(Reason::KillSwitch), |_, _, at| at.trading.tripped = true);
        check("fenced", Some(Reason::KillSwitch), |_, _, at| at.trading.fences = 1);
        check("journal", Some(Reason::JournalDown), |_, _, at| at.journal_up = false);
        check("session", Some(Reason::SessionDown), |_, _, at| at.session_live = false);
    }

    #[test]
    fn nothing_passes_without_rules_limits_or_trading() {
        let halted = instrument(false);
        let top = top();
        let gate = Gate::new(vec![Some(limits())]);
        let refusal = |gate: &Gate, it| gate.check(&order(), &situation(it, &top)).err();
        assert_eq!(refusal(&gate, &halted), Some(Reason::NotTrading));
        let name = Name::from("X").expect("short");
        let no_rules = Instrument::new(InstrumentId(0), VenueId(0), name, name, (2, 3));
        assert_eq!(refusal(&gate, &no_rules), Some(Reason::NotTrading));
        let no_limits = Gate::new(vec![None]);
        assert_eq!(refusal(&no_limits, &instrument(true)), Some(Reason::NotTrading));
    }

    #[test]
    fn book() {
        check("none", Some(Reason::BookState), |_, _, at| at.top = None);
        check("gap", Some(Reason::BookState), |_, t, _| t.state = BookState::Gap);
        check("one side", Some(Reason::BookState), |_, t, _| t.ask = None);
        check("at the age", None, |_, t, _| t.stamps.recv = ms(9_500));
        check("past it", Some(Reason::BookState), |_, t, _| t.stamps.recv = ms(9_499));
        check("decided in time", None, |_, _, at| at.recv = ms(9_950));
        check("decided too early", Some(Reason::DecisionAge), |_, _, at| at.recv = ms(9_949));
    }

    #[test]
    fn price() {
        let set = |units| {
            move |o: &mut NewOrder, _: &mut TopOfBook, _: &mut Situation<'_>| {
                o.price = Price::from_units(units)
            }
        };
        check("off the tick", Some(Reason::PriceStep), set(10_005));
        check("zero", Some(Reason::PriceStep), set(0));
        check("negative", Some(Reason::PriceStep), set(-10));
        check("below the venue's lowest", Some(Reason::PriceStep), set(90));
        check("above the venue's highest", Some(Reason::PriceStep), set(1_000_010));
        check("at the collar below", None, set(9_900));
        check("past the collar below", Some(Reason::PriceCollar), set(9_890));
        check("at the collar above", None, set(10_100));
        check("past the collar above", Some(Reason::PriceCollar), set(10_110));
    }

    #[test]
    fn quantity_and_notional() {
        let set = |units| {
            move |o: &mut NewOrder, _: &mut TopOfBook, _: &mut Situation<'_>| {
                o.qty = Qty::from_units(units)
            }
        };
        check("zero", Some(Reason::Quantity), set(0));
        check("negative", Some(Reason::Quantity), set(-2));
        check("below the venue's smallest", Some(Reason::Quantity), set(2));
        check("off the lot", Some(Reason::Quantity), set(11));
        check("at our largest", None, set(100));
        check("past our largest", Some(Reason::Quantity), set(102));
        check("past the least notional", Some(Reason::Notional), set(4));
        check("at the largest notional", None, set(100));
        check("past the largest notional", Some(Reason::Notional), |o, _, _| {
            o.qty = Qty::from_units(100);
            o.price = Price::from_units(10_010);
        });
    }

    #[test]
    fn position() {
        let long = |held, working| {
            move |_: &mut NewOrder, _: &mut TopOfBook, at: &mut Situation<'_>| {
                at.position = SignedQty::from_units(held);
                at.working_buy = Qty::from_units(working);
            }
        };
        check("at the limit", None, long(150, 40));
        check("past it", Some(Reason::Position), long(150, 41));
        check("a sale reduces", None, |o, _, at| {
            o.side = Side::Sell;
            at.position = SignedQty::from_units(5_000);
        });
        check("short at the limit", None, |o, _, at| {
            o.side = Side::Sell;
            at.position = SignedQty::from_units(-150);
            at.working_sell = Qty::from_units(40);
        });
        check("short past it", Some(Reason::Position), |o, _, at| {
            o.side = Side::Sell;
            at.position = SignedQty::from_units(-150);
            at.working_sell = Qty::from_units(41);
        });
    }

    #[test]
    fn counts() {
        check("one place left", None, |_, _, at| at.open_orders = 2);
        check("none left", Some(Reason::OpenOrders), |_, _, at| at.open_orders = 3);
        check("too many per second", Some(Reason::OrderRate), |_, _, at| at.rate_has_room = false);
    }

    #[test]
    fn a_market_order_is_reckoned_at_the_touch() {
        check("market", None, |o, _, _| {
            o.kind = OrderKind::Market;
            o.price = Price::ZERO;
        });
        check("market too large", Some(Reason::Notional), |o, _, _| {
            o.kind = OrderKind::Market;
            o.qty = Qty::from_units(100);
        });
    }

    proptest! {
        #[test]
        fn nothing_approved_breaks_a_limit(
            price in -100_i64..30_000, qty in -10_i64..300, buy: bool, market: bool,
            held in -400_i64..400, working in 0_i64..300, open in 0_usize..6, age_ms in 0_u64..200,
        ) {
            let (instrument, touch, limits) = (instrument(true), top(), limits());
            let side = if buy { Side::Buy } else { Side::Sell };
            let kind = if market { OrderKind::Market } else { OrderKind::Limit };
            let (price, qty) = (Price::from_units(price), Qty::from_units(qty));
            let order = NewOrder { side, kind, price, qty, ..order() };
            let at = Situation {
                recv: ms(10_000 - age_ms),
                position: SignedQty::from_units(held),
                working_buy: Qty::from_units(working),
                working_sell: Qty::from_units(working),
                open_orders: open,
                ..situation(&instrument, &touch)
            };
            if let Ok(approved) = Gate::new(vec![Some(limits)]).check(&order, &at) {
                let it = approved.get();
                prop_assert!(it.qty.units() > 0 && it.qty <= limits.order_qty_max);
                prop_assert!(it.qty.units() % 2 == 0);
                prop_assert!(age_ms <= 50 && open < 3);
                prop_assert!(held * side.sign() + working + it.qty.units() <= 200);
                if !market {
                    prop_assert!(it.price.units() % 10 == 0);
                    prop_assert!((9_900..=10_100).contains(&it.price.units()));
                    prop_assert!(it.price.times(it.qty) <= limits.order_notional_max);
                }
            }
        }
    }
}
