//! Quotes both sides of one instrument around the middle, one order per side.
//!
//! Comes in: the touch, reports. Goes out: limit-maker orders and their cancels. What always holds: at most one
//! order per side; no quote crosses the touch; no quote would carry the inventory beyond its limit; nothing is
//! quoted on a book that is not live; after a refusal that side pauses, so that there is never a storm of them.
//!
//! A quote that is off by more than the threshold is cancelled; the new one follows when the venue has confirmed
//! that, so that both can never trade.

use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::MonoNs;
use crate::trading::domain::decimal::parse_scaled;
use crate::trading::domain::{
    BookState, ExecType, ExecutionReport, Instrument, InstrumentId, NewOrder, OrderKind, OrderRef,
    Price, Qty, Reason, Rules, Side, TimeInForce, TopOfBook,
};

use super::{BuildError, Desk, Parameters, Strategy};

/// Digits behind the point of a number of basis points.
const BPS_DECIMALS: u8 = 3;
/// Units of basis points in one whole.
const BPS_UNITS: i128 = 10_000_000;

/// The parameters as typed, under `[strategy.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MarketMakerConfig {
    /// From our bid to our ask, in hundredths of a percent of the middle, decimal.
    pub spread_bps: String,
    /// Size of each quote, in the base asset, decimal.
    pub order_qty: String,
    /// Largest position on either side, in the base asset, decimal.
    pub inventory_limit: String,
    /// How far a full inventory shifts both quotes against itself, in hundredths of a percent, decimal.
    pub skew_bps: String,
    /// How far a quote may be off before it is replaced, in hundredths of a percent, decimal.
    pub requote_bps: String,
    /// Shortest time between two orders on one side, in milliseconds.
    pub min_requote_interval_ms: u64,
    /// Quote at the touch where that is inside our own spread's distance.
    pub join_touch: bool,
}

impl Default for MarketMakerConfig {
    /// Tight and small: trades often in a lively market, and cannot lose much.
    fn default() -> Self {
        Self {
            spread_bps: "2".to_owned(),
            order_qty: "0.001".to_owned(),
            inventory_limit: "0.02".to_owned(),
            skew_bps: "1".to_owned(),
            requote_bps: "0.5".to_owned(),
            min_requote_interval_ms: 100,
            join_touch: true,
        }
    }
}

/// The parameters, checked and in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    half_spread: i128,
    skew: i128,
    requote: i128,
    order_qty: Qty,
    inventory_limit: Qty,
    interval: Duration,
    join_touch: bool,
}

/// One side's quote.
#[derive(Clone, Copy, Debug, Default)]
struct Quote {
    order: Option<OrderRef>,
    /// No order before this moment.
    not_before: MonoNs,
}

/// The market maker.
pub struct MarketMaker {
    instrument: InstrumentId,
    params: Params,
    top: Option<TopOfBook>,
    bid: Quote,
    ask: Quote,
    fills: u64,
    last_refusal: Option<Reason>,
}

impl Params {
    /// The parameters in the units of `instrument`.
    ///
    /// # Errors
    /// Names the parameter that is no number of its scale, or zero where that makes no sense.
    pub fn new(config: &MarketMakerConfig, instrument: &Instrument) -> Result<Self, BuildError> {
        let number = |key: &str, text: &str, decimals| {
            parse_scaled(text.as_bytes(), decimals)
                .map_err(|e| BuildError::new(format!("{key}: {e}, got {text:?}")))
        };
        let bps = |key, text: &str| number(key, text, BPS_DECIMALS).map(i128::from);
        let qty = |key: &str, text: &str| match number(key, text, instrument.qty_decimals) {
            Ok(0) => Err(BuildError::new(format!("{key}: must be above 0"))),
            other => other.map(Qty::from_units),
        };
        Ok(Self {
            half_spread: bps("spread_bps", &config.spread_bps)? / 2,
            skew: bps("skew_bps", &config.skew_bps)?,
            requote: bps("requote_bps", &config.requote_bps)?,
            order_qty: qty("order_qty", &config.order_qty)?,
            inventory_limit: qty("inventory_limit", &config.inventory_limit)?,
            interval: Duration::from_millis(config.min_requote_interval_ms),
            join_touch: config.join_touch,
        })
    }
}

impl MarketMaker {
    /// A market maker in `instrument`.
    pub fn new(params: Params, instrument: InstrumentId) -> Self {
        Self {
            instrument,
            params,
            top: None,
            bid: Quote::default(),
            ask: Quote::default(),
            fills: 0,
            last_refusal: None,
        }
    }

    /// Brings both quotes to where they should be.
    fn requote(&mut self, desk: &mut Desk<'_>) {
        let live = self.top.filter(|top| top.state == BookState::Live);
        let rules = desk.instrument(self.instrument).and_then(Instrument::rules).copied();
        let wanted = match (live, rules) {
            (Some(top), Some(rules)) => self.wanted(&top, &rules, desk),
            _ => Wanted::default(),
        };
        self.bring(Side::Buy, wanted.bid, &wanted, desk);
        self.bring(Side::Sell, wanted.ask, &wanted, desk);
    }

    fn wanted(&self, top: &TopOfBook, rules: &Rules, desk: &Desk<'_>) -> Wanted {
        let (Some(bid), Some(ask), Some(mid)) = (top.bid, top.ask, top.mid()) else {
            return Wanted::default();
        };
        let params = &self.params;
        let position = i128::from(desk.position(self.instrument).units());
        let limit = i128::from(params.inventory_limit.units());
        let of_mid = |units: i128| i128::from(mid.units()) * units / BPS_UNITS;
        let shift = -of_mid(params.skew) * position.clamp(-limit, limit) / limit;
        let half = of_mid(params.half_spread);
        let tick = i128::from(rules.tick.units().max(1));
        let (touch_bid, touch_ask) = (i128::from(bid.price.units()), i128::from(ask.price.units()));
        let mut buy = i128::from(mid.units()) - half;
        let mut sell = i128::from(mid.units()) + half;
        if params.join_touch {
            buy = buy.max(touch_bid);
            sell = sell.min(touch_ask);
        }
        // Never crossing: at most one tick inside the other side of the touch.
        let buy = (buy + shift).min(touch_ask - tick);
        let sell = (sell + shift).max(touch_bid + tick);
        let qty = rules.floor_qty(params.order_qty);
        let room = |after: i128| after <= limit;
        let price = |units: i128| i64::try_from(units).ok().map(Price::from_units);
        let size = i128::from(qty.units());
        Wanted {
            bid: price(buy).filter(|_| room(position + size)).map(|p| rules.floor_price(p)),
            ask: price(sell).filter(|_| room(size - position)).map(|p| rules.ceil_price(p)),
            qty,
            slack: of_mid(params.requote),
        }
    }

    /// Brings one side's quote to `price`: cancels what is off, places what is missing.
    fn bring(&mut self, side: Side, price: Option<Price>, wanted: &Wanted, desk: &mut Desk<'_>) {
        let (instrument, interval) = (self.instrument, self.params.interval);
        let quote = self.side(side);
        quote.order = quote.order.filter(|order| desk.order(*order).is_some());
        if let Some(order) = quote.order {
            let at = desk.order(order).map(|own| own.new.price.units()).unwrap_or_default();
            let off = price.is_none_or(|p| i128::from(p.units().abs_diff(at)) > wanted.slack);
            if off {
                // Busy means that the next book cancels it.
                let _ = desk.cancel(order);
            }
            return;
        }
        let Some(price) = price.filter(|_| desk.now() >= quote.not_before) else { return };
        let new = NewOrder {
            instrument,
            side,
            kind: OrderKind::LimitMaker,
            tif: TimeInForce::Gtc,
            price,
            qty: wanted.qty,
        };
        quote.not_before = desk.now().after(interval);
        // Busy means that the order follows when the interval has passed.
        quote.order = desk.place(new).ok();
    }

    fn side(&mut self, side: Side) -> &mut Quote {
        match side {
            Side::Buy => &mut self.bid,
            Side::Sell => &mut self.ask,
        }
    }
}

/// Where the quotes should be.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    bid: Option<Price>,
    ask: Option<Price>,
    qty: Qty,
    slack: i128,
}

/// How long a side pauses after a refusal: as long as its cause usually lasts.
fn pause(reason: Reason) -> Duration {
    let ms = match reason {
        Reason::DecisionAge | Reason::Busy | Reason::Suspended => 100,
        Reason::BookState | Reason::Venue | Reason::PriceCollar => 250,
        Reason::Restarted | Reason::NeverArrived | Reason::UnknownOrder => 500,
        Reason::SessionDown
        | Reason::JournalDown
        | Reason::KillSwitch
        | Reason::NotTrading
        | Reason::Draining
        | Reason::OrderRate => 1_000,
        // The market or a person has to change something.
        Reason::Quantity
        | Reason::PriceStep
        | Reason::Notional
        | Reason::Position
        | Reason::OpenOrders => 5_000,
    };
    Duration::from_millis(ms)
}

impl Strategy for MarketMaker {
    /// Quotes that no longer fit are replaced at the next book.
    fn revise(&mut self, parameters: &Parameters) {
        let Parameters::MarketMaker(params) = parameters;
        self.params = *params;
    }

    fn on_book(&mut self, top: &TopOfBook, desk: &mut Desk<'_>) {
        if top.instrument == self.instrument {
            self.top = Some(*top);
            self.requote(desk);
        }
    }

    fn on_report(&mut self, report: &ExecutionReport, desk: &mut Desk<'_>) {
        self.fills += u64::from(report.exec == ExecType::Trade);
        let refused = matches!(report.exec, ExecType::Refused | ExecType::Rejected);
        if refused && let Some(reason) = report.reason {
            self.last_refusal = Some(reason);
            let not_before = desk.now().after(pause(reason));
            self.side(report.side).not_before = not_before;
        }
    }

    fn on_timer(&mut self, desk: &mut Desk<'_>) {
        self.requote(desk);
    }

    fn note(&self, _now: MonoNs, out: &mut String) {
        let state = |quote: &Quote| if quote.order.is_some() { "quoting" } else { "out" };
        let refusal = self.last_refusal.map_or("none", Reason::label);
        // Writing into a string cannot fail.
        let _ = write!(
            out,
            "bid {}, ask {}, fills {}, last refusal {refusal}",
            state(&self.bid),
            state(&self.ask),
            self.fills,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::clock::UtcNs;
    use crate::runtime::actor::Cx;
    use crate::runtime::mailbox::{Inbox, Mailbox};
    use crate::trading::domain::instrument::Name;
    use crate::trading::domain::{
        ClientOrderId, Commission, IntentBody, Level, Notional, OrderIntent, OrderStatus,
        SignedQty, VenueId,
    };
    use crate::trading::strategy::desk::Drawer;

    /// A market maker at its desk, and the other end of its intents.
    struct Bench {
        maker: MarketMaker,
        drawer: Drawer,
        intents: Inbox<OrderIntent>,
        position: Arc<AtomicI64>,
        now: MonoNs,
    }

    fn instrument() -> Instrument {
        let name = |text| Name::from(text).expect("short");
        let ids = (InstrumentId(0), VenueId(0));
        let it = Instrument::new(ids.0, ids.1, name("sim"), name("BTCUSDT"), (2, 3));
        it.set_rules(Rules {
            base: name("BTC"),
            quote: name("USDT"),
            tick: Price::from_units(10),
            price_min: Price::ZERO,
            price_max: Price::ZERO,
            lot: Qty::from_units(1),
            qty_min: Qty::ZERO,
            qty_max: Qty::ZERO,
            notional_min: Notional::ZERO,
            trading: true,
        });
        it
    }

    impl Bench {
        fn new(change: impl FnOnce(&mut MarketMakerConfig)) -> Self {
            let mut config = MarketMakerConfig::default();
            change(&mut config);
            let mailbox = Mailbox::detached("intents", 64);
            let position = Arc::new(AtomicI64::new(0));
            let held = Arc::clone(&position);
            let positions = Box::new(move |_| SignedQty::from_units(held.load(Ordering::Relaxed)));
            let instruments = Arc::from(vec![instrument()]);
            Self {
                maker: {
                    let params = Params::new(&config, &instrument()).expect("good parameters");
                    MarketMaker::new(params, instrument().id)
                },
                drawer: Drawer::new(0, mailbox.outbox(), instruments, positions),
                intents: mailbox.inbox(),
                position,
                now: MonoNs::from_millis(1_000),
            }
        }

        /// Shows a book and gives what is asked for: placed prices as `+price` for bids and `-price` for asks,
        /// cancels as 0.
        fn book(&mut self, state: BookState, bid: i64, ask: i64) -> Vec<i64> {
            let level =
                |price| Some(Level { price: Price::from_units(price), qty: Qty::from_units(1) });
            let top = TopOfBook { state, bid: level(bid), ask: level(ask), ..TopOfBook::default() };
            let mut desk = Desk::new(&mut self.drawer, self.now, UtcNs::default(), self.now);
            self.maker.on_book(&top, &mut desk);
            self.now = self.now.after(Duration::from_millis(200));
            self.wishes()
        }

        fn wishes(&mut self) -> Vec<i64> {
            let mut cx = Cx::detached(self.now, UtcNs::default());
            let mut wishes = Vec::new();
            while let Some(intent) = self.intents.take(&mut cx) {
                wishes.push(match intent.body {
                    IntentBody::Place(new) => new.price.units() * new.side.sign(),
                    _ => 0,
                });
            }
            wishes
        }

        /// Ends the order on one side.
        fn end(&mut self, side: Side, exec: ExecType, reason: Option<Reason>) {
            let own = self.drawer.orders.iter().find(|own| own.new.side == side);
            let own = *own.expect("an order on that side");
            let report = ExecutionReport {
                instrument: own.new.instrument,
                order: own.order,
                client_order_id: ClientOrderId::new(),
                venue_order_id: 0,
                exec,
                status: OrderStatus::Canceled,
                side,
                price: own.new.price,
                qty: own.new.qty,
                cum_qty: Qty::ZERO,
                leaves_qty: Qty::ZERO,
                last_qty: Qty::ZERO,
                last_price: Price::ZERO,
                trade_id: 0,
                commission: Commission::default(),
                reason,
                venue_code: 0,
                venue_utc: UtcNs::default(),
                recv: self.now,
            };
            self.drawer.note(&report);
            let mut desk = Desk::new(&mut self.drawer, self.now, UtcNs::default(), self.now);
            self.maker.on_report(&report, &mut desk);
        }
    }

    #[test]
    fn quotes_at_the_touch_when_joining() {
        let mut bench = Bench::new(|_| {});
        assert_eq!(bench.book(BookState::Live, 1_000_000, 1_000_100), [1_000_000, -1_000_100]);
        assert_eq!(bench.book(BookState::Live, 1_000_000, 1_000_100), [] as [i64; 0]);
    }

    #[test]
    fn quotes_its_spread_when_not_joining() {
        // 20 bps of 1,000,050 are 2,000: 1,000 on either side.
        let mut bench = Bench::new(|config| {
            config.join_touch = false;
            config.spread_bps = "20".to_owned();
        });
        assert_eq!(bench.book(BookState::Live, 1_000_000, 1_000_100), [999_050, -1_001_050]);
    }

    #[test]
    fn never_crosses_a_tight_touch() {
        let mut bench = Bench::new(|config| {
            config.join_touch = false;
            config.spread_bps = "0".to_owned();
        });
        assert_eq!(bench.book(BookState::Live, 1_000_000, 1_000_010), [1_000_000, -1_000_010]);
    }

    #[test]
    fn replaces_only_beyond_the_threshold_and_after_the_cancel() {
        let mut bench = Bench::new(|config| config.requote_bps = "1".to_owned());
        bench.book(BookState::Live, 1_000_000, 1_000_100);
        // One basis point is 100 units.
        assert_eq!(bench.book(BookState::Live, 1_000_100, 1_000_200), [] as [i64; 0]);
        assert_eq!(bench.book(BookState::Live, 1_000_110, 1_000_210), [0, 0]);
        assert_eq!(bench.book(BookState::Live, 1_000_110, 1_000_210), [] as [i64; 0]);
        bench.end(Side::Buy, ExecType::Canceled, None);
        assert_eq!(bench.book(BookState::Live, 1_000_110, 1_000_210), [1_000_110]);
    }

    #[test]
    fn pulls_both_quotes_off_a_book_that_is_not_live() {
        let mut bench = Bench::new(|_| {});
        bench.book(BookState::Live, 1_000_000, 1_000_100);
        assert_eq!(bench.book(BookState::Gap, 1_000_000, 1_000_100), [0, 0]);
    }

    #[test]
    fn at_the_inventory_limit_only_the_reducing_side_is_quoted() {
        let mut bench = Bench::new(|config| config.skew_bps = "0".to_owned());
        bench.position.store(20, Ordering::Relaxed);
        assert_eq!(bench.book(BookState::Live, 1_000_000, 1_000_100), [-1_000_100]);
        let mut bench = Bench::new(|config| config.skew_bps = "0".to_owned());
        bench.position.store(-20, Ordering::Relaxed);
        assert_eq!(bench.book(BookState::Live, 1_000_000, 1_000_100), [1_000_000]);
    }

    #[test]
    fn inventory_shifts_both_quotes_against_itself() {
        let mut bench = Bench::new(|config| config.skew_bps = "1".to_owned());
        bench.position.store(10, Ordering::Relaxed);
        // Half of the limit shifts by half of 100 units, rounded away from the middle on either side.
        assert_eq!(bench.book(BookState::Live, 1_000_000, 1_000_200), [999_950, -1_000_150]);
    }

    #[test]
    fn a_refusal_pauses_its_side() {
        let mut bench = Bench::new(|_| {});
        bench.book(BookState::Live, 1_000_000, 1_000_100);
        bench.end(Side::Buy, ExecType::Refused, Some(Reason::KillSwitch));
        for _ in 0..5 {
            assert_eq!(bench.book(BookState::Live, 1_000_000, 1_000_100), [] as [i64; 0]);
        }
        assert_eq!(bench.book(BookState::Live, 1_000_000, 1_000_100), [1_000_000]);
    }

    #[test]
    fn parameters_are_checked_by_name() {
        let bad = MarketMakerConfig { spread_bps: "x".to_owned(), ..MarketMakerConfig::default() };
        let error = Params::new(&bad, &instrument()).expect_err("refused").to_string();
        assert!(error.starts_with("spread_bps"), "{error}");
        let zero = MarketMakerConfig { order_qty: "0".to_owned(), ..MarketMakerConfig::default() };
        assert!(Params::new(&zero, &instrument()).is_err());
    }
}
