//! What outlives one generation of the order sender: counters, positions, and which orders were open.
//!
//! The sender stores each fact here right after it happened, in plain atomic words: no lock, no allocation, and
//! nothing of the dead generation's memory is ever used again. The next generation reads it once, in `on_start`.
//! There is one writer at a time; a generation's successor starts after it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::MonoNs;
use crate::trading::domain::{
    InstrumentId, NewOrder, Notional, OrderKind, OrderRef, OrderStatus, Price, Qty, Reason, Side,
    SignedQty, TimeInForce,
};
use crate::trading::risk::Exposure;
use crate::trading::telemetry::OrderTotals;

use super::open_orders::{Order, PLACES};

/// Words of one order.
const ORDER_WORDS: usize = 9;
/// Words of the totals.
const TOTAL_WORDS: usize = 10;
/// Words of one position.
const POSITION_WORDS: usize = 9;

/// The vault; clones share one. Made by the topology, once per order sender.
#[derive(Clone, Debug)]
pub struct Vault(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    next_seq: AtomicU64,
    sessions: AtomicU64,
    suspensions: AtomicU64,
    last_order: AtomicU64,
    quiet_until: AtomicU64,
    totals: [AtomicU64; TOTAL_WORDS],
    refused: [AtomicU64; Reason::ALL.len()],
    positions: Box<[[AtomicU64; POSITION_WORDS]]>,
    orders: Box<[[AtomicU64; ORDER_WORDS]]>,
}

/// A position and the newest trade counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The position.
    pub exposure: Exposure,
    /// The newest trade id counted in; `None` before any comparison with the venue.
    pub last_trade_id: Option<u64>,
}

/// An order as an earlier generation left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptOrder {
    /// The counter of its client order id.
    pub seq: u64,
    /// The generation that minted it.
    pub generation: u32,
    /// The strategy's name for it.
    pub order: OrderRef,
    /// The order.
    pub new: NewOrder,
    /// Where it stood.
    pub status: OrderStatus,
    /// Traded by then.
    pub cum_qty: Qty,
    /// The venue's key; 0 when unknown.
    pub venue_order_id: u64,
    /// When it was sent; `NEVER` when it was not.
    pub sent: MonoNs,
}

fn store(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
}

fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Acquire)
}

/// Signed numbers travel as their two's complement.
fn word(value: i64) -> u64 {
    u64::from_ne_bytes(value.to_ne_bytes())
}

fn signed(word: u64) -> i64 {
    i64::from_ne_bytes(word.to_ne_bytes())
}

fn store_wide(low: &AtomicU64, high: &AtomicU64, value: Notional) {
    let bits = u128::from_ne_bytes(value.units().to_ne_bytes());
    store(low, bits as u64);
    store(high, (bits >> 64) as u64);
}

fn load_wide(low: &AtomicU64, high: &AtomicU64) -> Notional {
    let bits = u128::from(load(low)) | (u128::from(load(high)) << 64);
    Notional::from_units(i128::from_ne_bytes(bits.to_ne_bytes()))
}

impl Vault {
    /// A vault for so many instruments of the engine: flat, nothing known.
    pub fn new(instruments: usize) -> Self {
        Self(Arc::new(Inner {
            next_seq: AtomicU64::new(1),
            sessions: AtomicU64::new(0),
            suspensions: AtomicU64::new(0),
            last_order: AtomicU64::new(0),
            quiet_until: AtomicU64::new(0),
            totals: Default::default(),
            refused: Default::default(),
            positions: (0..instruments).map(|_| Default::default()).collect(),
            orders: (0..PLACES).map(|_| Default::default()).collect(),
        }))
    }

    /// Sets a position, after each fill; also before the first start, with what an earlier process left.
    pub fn keep(&self, instrument: InstrumentId, kept: &Kept) {
        let Some(words) = self.0.positions.get(instrument.index()) else { return };
        let [qty, cost0, cost1, real0, real1, fees0, fees1, other, trade] = words;
        let it = &kept.exposure;
        store(qty, word(it.qty.units()));
        store_wide(cost0, cost1, it.cost);
        store_wide(real0, real1, it.realized);
        store_wide(fees0, fees1, it.fees);
        store(other, word(it.other_fees));
        // 0 says "never compared"; a trade id of 0 does not exist.
        store(trade, kept.last_trade_id.map_or(0, |id| id.saturating_add(1)));
    }

    /// The position kept of an instrument.
    pub fn kept(&self, instrument: InstrumentId) -> Kept {
        let Some(words) = self.0.positions.get(instrument.index()) else { return Kept::default() };
        let [qty, cost0, cost1, real0, real1, fees0, fees1, other, trade] = words;
        Kept {
            exposure: Exposure {
                qty: SignedQty::from_units(signed(load(qty))),
                cost: load_wide(cost0, cost1),
                realized: load_wide(real0, real1),
                fees: load_wide(fees0, fees1),
                other_fees: signed(load(other)),
            },
            last_trade_id: load(trade).checked_sub(1),
        }
    }

    /// The net quantity kept of an instrument; any thread may ask at any time.
    pub fn position(&self, instrument: InstrumentId) -> SignedQty {
        let words = self.0.positions.get(instrument.index());
        SignedQty::from_units(words.map_or(0, |words| signed(load(&words[0]))))
    }

    /// The next counter for a client order id that no generation has used.
    pub(super) fn next_seq(&self) -> u64 {
        load(&self.0.next_seq)
    }

    /// Counters below `seq` are used.
    pub(super) fn use_up_to(&self, seq: u64) {
        store(&self.0.next_seq, seq);
    }

    /// Counts a session opened by any generation; the number before.
    pub(super) fn count_session(&self) -> u64 {
        self.0.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// Sessions opened by all generations.
    pub(super) fn sessions(&self) -> u64 {
        load(&self.0.sessions)
    }

    /// Notes that an order was let in.
    pub(super) fn keep_last_order(&self, at: MonoNs) {
        store(&self.0.last_order, at.as_nanos());
    }

    /// When the last order of any generation was let in; `None` before the first.
    pub(super) fn last_order(&self) -> Option<MonoNs> {
        Some(load(&self.0.last_order)).filter(|ns| *ns != 0).map(MonoNs::from_nanos)
    }

    /// Notes until when the venue wants us to be quiet.
    pub(super) fn keep_quiet_until(&self, until: MonoNs) {
        store(&self.0.quiet_until, until.as_nanos());
    }

    /// Until when the venue wants us to be quiet, whichever generation was told so.
    pub(super) fn quiet_until(&self) -> MonoNs {
        MonoNs::from_nanos(load(&self.0.quiet_until))
    }

    /// Counts a suspension of any generation.
    pub(super) fn count_suspension(&self) {
        self.0.suspensions.fetch_add(1, Ordering::Relaxed);
    }

    /// Suspensions of all generations.
    pub(super) fn suspensions(&self) -> u64 {
        load(&self.0.suspensions)
    }

    /// Keeps what became of all orders.
    pub(super) fn keep_totals(&self, totals: &OrderTotals, refused: &[u64; Reason::ALL.len()]) {
        let t = totals;
        let counts = [
            t.sent,
            t.acknowledged,
            t.filled,
            t.fills,
            t.cancelled,
            t.rejected,
            t.refused,
            t.expired,
            t.duplicates,
            t.withdrawn,
        ];
        for (word, count) in self.0.totals.iter().zip(counts) {
            word.store(count, Ordering::Relaxed);
        }
        for (word, count) in self.0.refused.iter().zip(refused) {
            word.store(*count, Ordering::Relaxed);
        }
    }

    /// What became of all orders.
    pub(super) fn totals(&self) -> (OrderTotals, [u64; Reason::ALL.len()]) {
        let [
            sent,
            acknowledged,
            filled,
            fills,
            cancelled,
            rejected,
            refused,
            expired,
            duplicates,
            withdrawn,
        ] = self.0.totals.each_ref().map(load);
        let totals = OrderTotals {
            sent,
            acknowledged,
            filled,
            fills,
            cancelled,
            rejected,
            refused,
            expired,
            unknown: 0,
            duplicates,
            withdrawn,
        };
        (totals, self.0.refused.each_ref().map(load))
    }

    /// Keeps an order as it stands now.
    pub(super) fn keep_order(&self, order: &Order) {
        let [seq, generation, name, marks, price, qty, cum, venue, sent] =
            &self.0.orders[place(order.seq)];
        store(generation, u64::from(order.generation));
        store(name, order.order.0);
        // A done order that still owes fills is asked about again.
        let settled = order.life.is_settled();
        let status = if settled { order.life.status() } else { OrderStatus::Unknown };
        store(marks, pack(&order.new, status));
        store(price, word(order.new.price.units()));
        store(qty, word(order.new.qty.units()));
        store(cum, word(order.life.cum_qty().units()));
        store(venue, order.venue_order_id);
        store(sent, order.sent.as_nanos());
        // Last: a place whose counter is set is whole.
        store(seq, order.seq);
    }

    /// The order is done and everybody knows.
    pub(super) fn forget_order(&self, seq: u64) {
        let words = &self.0.orders[place(seq)];
        if load(&words[0]) == seq {
            store(&words[0], 0);
        }
    }

    /// The orders kept, in no order.
    pub(super) fn orders(&self) -> impl Iterator<Item = KeptOrder> {
        self.0.orders.iter().filter_map(unpack)
    }
}

fn place(seq: u64) -> usize {
    (seq % PLACES as u64) as usize
}

/// Instrument, side, kind, time in force and status in one word.
fn pack(new: &NewOrder, status: OrderStatus) -> u64 {
    let side = u64::from(new.side == Side::Sell);
    let kind = match new.kind {
        OrderKind::Limit => 0,
        OrderKind::LimitMaker => 1,
        OrderKind::Market => 2,
    };
    let tif = match new.tif {
        TimeInForce::Gtc => 0,
        TimeInForce::Ioc => 1,
        TimeInForce::Fok => 2,
    };
    let status = match status {
        OrderStatus::Filled => 1,
        OrderStatus::Canceled => 2,
        OrderStatus::Rejected => 3,
        OrderStatus::Expired => 4,
        // Whatever it was, the next generation does not know where it stands.
        _ => 0,
    };
    u64::from(new.instrument.0) | side << 16 | kind << 24 | tif << 32 | status << 40
}

fn unpack(words: &[AtomicU64; ORDER_WORDS]) -> Option<KeptOrder> {
    let [seq, generation, name, marks, price, qty, cum, venue, sent] = words;
    let seq = Some(load(seq)).filter(|seq| *seq != 0)?;
    let marks = load(marks);
    let field = |shift: u32| (marks >> shift) as u8;
    Some(KeptOrder {
        seq,
        generation: load(generation) as u32,
        order: OrderRef(load(name)),
        new: NewOrder {
            instrument: InstrumentId(marks as u16),
            side: if field(16) == 1 { Side::Sell } else { Side::Buy },
            kind: [OrderKind::Limit, OrderKind::LimitMaker, OrderKind::Market]
                [usize::from(field(24).min(2))],
            tif: [TimeInForce::Gtc, TimeInForce::Ioc, TimeInForce::Fok]
                [usize::from(field(32).min(2))],
            price: Price::from_units(signed(load(price))),
            qty: Qty::from_units(signed(load(qty))),
        },
        status: match field(40) {
            1 => OrderStatus::Filled,
            2 => OrderStatus::Canceled,
            3 => OrderStatus::Rejected,
            4 => OrderStatus::Expired,
            _ => OrderStatus::Unknown,
        },
        cum_qty: Qty::from_units(signed(load(cum))),
        venue_order_id: load(venue),
        sent: MonoNs::from_nanos(load(sent)),
    })
}
