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

use super::{BuildError, Desk, Strategy};

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

/// The parameters in units.
#[derive(Clone, Copy, Debug)]
struct Params {
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

impl MarketMaker {
    /// A market maker in `instrument`.
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
        let params = Params {
            half_spread: bps("spread_bps", &config.spread_bps)? / 2,
            skew: bps("skew_bps", &config.skew_bps)?,
            requote: bps("requote_bps", &config.requote_bps)?,
            order_qty: qty("order_qty", &config.order_qty)?,
            inventory_limit: qty("inventory_limit", &config.inventory_limit)?,
            interval: Duration::from_millis(config.min_requote_interval_ms),
            join_touch: config.join_touch,
        };
        Ok(Self {
            instrument: instrument.id,
            params,
            top: None,
            bid: Quote::default(),
            ask: Quote::default(),
            fills: 0,
            last_refusal: None,
        })
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
        Reason::DecisionAge | Reason::Busy => 100,
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
