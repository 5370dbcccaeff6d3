//! Rows: what actors publish comes in, and goes out as the text and numbers of the status.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::MonoNs;
use crate::runtime::health::Cell;
use crate::runtime::mailbox::Edge;
use crate::runtime::thread::ThreadFacts;
use crate::trading::domain::instrument::Name;
use crate::trading::domain::{Instrument, InstrumentId, Level, Notional, Reason};
use crate::trading::telemetry::{
    BookView, FeedInstrumentView, FeedView, LatencyView, OpenOrderView, OrderTotals, OrdersView,
    PositionView, StrategyView, Transport,
};

use super::sources::{EventLine, RateLimit, StatusSources, Watched};
use super::status::{
    ActorStatus, BookStatus, CashStatus, EventStatus, FeedStatus, JournalStatus, LatencyStatus,
    MailboxStatus, OpenOrderStatus, OrdersStatus, PositionStatus, RateLimitStatus, Status,
    StrategyStatus, ms,
};

/// Events shown.
const EVENTS_MAX: usize = 50;

/// Digits behind the point of a balance: the domain's fixed scale.
const BALANCE_DECIMALS: u8 = 8;

/// One actor, without its mailboxes.
pub(super) fn actor(
    cell: &Cell,
    now: MonoNs,
    idle: String,
    beat_age_ms: u64,
    stalled: bool,
) -> ActorStatus {
    let thread = ThreadFacts::of(cell.tid());
    ActorStatus {
        id: cell.name().to_owned(),
        tid: cell.tid(),
        core: cell.core(),
        pinned: cell.core().is_some(),
        idle,
        state: cell.state().label(),
        generation: cell.generation(),
        restarts: cell.restarts(),
        consecutive: cell.consecutive(),
        last_exit: cell.last_exit(),
        uptime_ms: cell.ready_since().map_or(0, |since| ms(now.since(since))),
        beat_age_ms,
        turns: cell.beat(),
        busy_turns: cell.busy_turns(),
        turn_max_us: cell.turn_max_ns() / 1_000,
        long_turns: cell.long_turns(),
        messages_in: 0,
        messages_out: 0,
        in_flight_lost: 0,
        stalled,
        stalls: cell.stalls(),
        stall_age_ms: ms(cell.stall_age()),
        interrupted: cell.interrupted(),
        cpus_allowed: thread.cpus_allowed,
        cpu_ms: thread.cpu_ms,
        switches_voluntary: thread.switches_voluntary,
        switches_involuntary: thread.switches_involuntary,
        mailboxes: Vec::new(),
    }
}

/// One mailbox.
pub(super) fn mailbox(edge: &dyn Edge) -> MailboxStatus {
    let counts = edge.counts();
    let reasons = [
        ("overflow", counts.dropped_overflow),
        ("closed", counts.dropped_closed),
        ("restart", counts.dropped_restart),
        ("resync", counts.dropped_resync),
    ];
    MailboxStatus {
        edge: edge.spec().name.clone(),
        depth: counts.left,
        capacity: edge.capacity(),
        high_water: counts.high_water,
        refused: counts.refused,
        dropped: counts.dropped(),
        dropped_by: reasons.into_iter().filter(|(_, n)| *n > 0).collect(),
        conflated: counts.conflated,
        sent: counts.sent,
        handled: counts.handled,
        lost_in_flight: counts.lost_in_flight,
    }
}

/// Every instrument of every feed.
pub(super) fn feeds(sources: &StatusSources, now: MonoNs) -> Vec<FeedStatus> {
    let books = book_views(sources);
    let mut out = Vec::new();
    for feed in &sources.feeds {
        feed.read(|view| {
            let rows = view.instruments.iter();
            out.extend(rows.map(|instrument| feed_row(sources, view, instrument, &books, now)));
        });
    }
    out
}

fn feed_row(
    sources: &StatusSources,
    feed: &FeedView,
    of: &FeedInstrumentView,
    books: &[BookView],
    now: MonoNs,
) -> FeedStatus {
    let (venue, symbol) = names(sources, of.instrument);
    let book = books.iter().find(|book| book.instrument == of.instrument);
    FeedStatus {
        venue,
        symbol,
        transport: match feed.transport {
            Transport::WebSocket => "websocket",
            Transport::Rest => "rest",
        },
        state: feed.state.label(),
        last_update_age_ms: (of.last_update > MonoNs::ZERO).then(|| ms(now.since(of.last_update))),
        messages: of.messages,
        gaps: book.map_or(0, |book| book.gaps),
        resyncs: book.map_or(0, |book| book.resyncs),
        reconnects: feed.reconnects,
        last_error: feed.last_error.clone(),
    }
}

/// All books of all builders.
pub(super) fn book_views(sources: &StatusSources) -> Vec<BookView> {
    sources.books.iter().filter_map(|b| b.read(|view| view.books.clone())).flatten().collect()
}

/// Every book.
pub(super) fn books(sources: &StatusSources) -> Vec<BookStatus> {
    book_views(sources).iter().map(|book| book_row(sources, book)).collect()
}

/// One book as text.
pub(super) fn book_row(sources: &StatusSources, book: &BookView) -> BookStatus {
    let (venue, symbol) = names(sources, book.instrument);
    let (price, qty) = decimals(sources, book.instrument);
    let price_text = |level: Option<Level>| level.map(|l| l.price.display(price).to_string());
    let qty_text = |level: Option<Level>| level.map(|l| l.qty.display(qty).to_string());
    BookStatus {
        venue,
        symbol,
        state: book.state.label(),
        update_id: book.update_id,
        bid: price_text(book.bid),
        bid_qty: qty_text(book.bid),
        ask: price_text(book.ask),
        ask_qty: qty_text(book.ask),
        levels: book.bid_levels.saturating_add(book.ask_levels),
    }
}

/// Fills in everything that order senders publish.
pub(super) fn fill_orders(status: &mut Status, sources: &StatusSources, now: MonoNs) {
    status.cash = cash(sources);
    for orders in &sources.orders {
        orders.read(|view| {
            add_totals(&mut status.orders, view);
            let open = view.open.iter().map(|order| open_order_row(sources, order, now));
            status.open_orders.extend(open);
            let positions = view.positions.iter().map(|position| position_row(sources, position));
            status.positions.extend(positions);
            for latency in &view.latency {
                status.latency_us.insert(latency.name.to_string(), latency_row(latency));
            }
        });
    }
}

fn add_totals(sum: &mut OrdersStatus, view: &OrdersView) {
    let OrderTotals { sent, acknowledged, filled, fills, cancelled, .. } = view.totals;
    let OrderTotals { rejected, expired, unknown, duplicates, withdrawn, .. } = view.totals;
    sum.open += view.open.len() as u64;
    sum.unknown += unknown;
    sum.sent += sent;
    sum.acknowledged += acknowledged;
    sum.filled += filled;
    sum.cancelled += cancelled;
    sum.rejected += rejected;
    sum.fills += fills;
    sum.expired += expired;
    sum.duplicates += duplicates;
    sum.withdrawn += withdrawn;
    sum.suspended += view.suspended;
    sum.stuck += view.stuck;
    for (reason, count) in Reason::ALL.iter().zip(&view.refused).filter(|(_, n)| **n > 0) {
        *sum.refused.entry(reason.label()).or_default() += count;
    }
}

fn open_order_row(sources: &StatusSources, order: &OpenOrderView, now: MonoNs) -> OpenOrderStatus {
    let (venue, symbol) = names(sources, order.instrument);
    let (price, qty) = decimals(sources, order.instrument);
    OpenOrderStatus {
        client_order_id: order.client_order_id.to_string(),
        venue,
        symbol,
        status: order.status.label(),
        side: order.side.label(),
        price: order.price.display(price).to_string(),
        qty: order.qty.display(qty).to_string(),
        cum_qty: order.cum_qty.display(qty).to_string(),
        age_ms: ms(now.since(order.sent)),
    }
}

/// One position as text.
pub(super) fn position_row(sources: &StatusSources, position: &PositionView) -> PositionStatus {
    let (venue, symbol) = names(sources, position.instrument);
    let (price, qty) = decimals(sources, position.instrument);
    let amount = |notional: Notional| notional.display(price + qty).to_string();
    PositionStatus {
        venue,
        symbol,
        qty: position.qty.display(qty).to_string(),
        avg_price: position.avg_price.display(price).to_string(),
        realized_pnl: amount(position.realized_pnl),
        unrealized_pnl: amount(position.unrealized_pnl),
        fees: amount(position.fees),
    }
}

/// What all accounts together hold of each asset.
fn cash(sources: &StatusSources) -> BTreeMap<String, CashStatus> {
    let mut sums: BTreeMap<Name, (i128, i128)> = BTreeMap::new();
    for orders in &sources.orders {
        orders.read(|view| {
            for balance in &view.balances {
                let (free, locked) = sums.entry(balance.asset).or_default();
                *free += i128::from(balance.free);
                *locked += i128::from(balance.locked);
            }
        });
    }
    let row = |(asset, (free, locked)): (Name, (i128, i128))| {
        (asset.to_string(), CashStatus { free: balance_text(free), locked: balance_text(locked) })
    };
    sums.into_iter().map(row).collect()
}

fn balance_text(units: i128) -> String {
    Notional::from_units(units).display(BALANCE_DECIMALS).to_string()
}

/// One latency in microseconds.
pub(super) fn latency_row(latency: &LatencyView) -> LatencyStatus {
    // Below 2^53 ns, a hundred days, the division is exact to a thousandth of a microsecond.
    let us = |ns: u64| ns as f64 / 1_000.0;
    LatencyStatus {
        count: latency.count,
        p50: us(latency.p50_ns),
        p99: us(latency.p99_ns),
        p999: us(latency.p999_ns),
        max: us(latency.max_ns),
    }
}

/// By quote asset: free and locked balance, plus the position of every instrument priced in it at the middle of its
/// book, or at its average price where the book has no two sides. Base assets held before this engine traded are not
/// counted, so that the equity changes by its profit alone. Assets whose balance is not known are missing.
pub(super) fn equity(sources: &StatusSources) -> BTreeMap<String, String> {
    let books = book_views(sources);
    let mut sums: BTreeMap<String, i128> = BTreeMap::new();
    for orders in &sources.orders {
        orders.read(|view| {
            // Every account's cash counts once, however many of its instruments are paid in it.
            let mut counted = BTreeSet::new();
            for instrument in sources.instruments.iter() {
                let Some(rules) = instrument.rules() else { continue };
                let quote = view.balances.iter().find(|b| b.asset == rules.quote);
                let Some(quote) = quote else { continue };
                let cash = i128::from(quote.free) + i128::from(quote.locked);
                let sum = sums.entry(rules.quote.to_string()).or_default();
                if counted.insert(rules.quote) {
                    *sum += cash;
                }
                let position = view.positions.iter().find(|p| p.instrument == instrument.id);
                *sum += position.map_or(0, |p| position_value(instrument, p, &books));
            }
        });
    }
    let text = |units: i128| Notional::from_units(units).display(BALANCE_DECIMALS).to_string();
    sums.into_iter().map(|(asset, units)| (asset, text(units))).collect()
}

/// What a position is worth, in units of a balance, rounded toward zero.
fn position_value(instrument: &Instrument, position: &PositionView, books: &[BookView]) -> i128 {
    let book = books.iter().find(|book| book.instrument == instrument.id);
    let mid = book.and_then(|book| {
        let (bid, ask) = (book.bid?.price.units(), book.ask?.price.units());
        Some(bid + (ask - bid) / 2)
    });
    let price = mid.unwrap_or(position.avg_price.units());
    let value = i128::from(position.qty.units()) * i128::from(price);
    let decimals = instrument.notional_decimals();
    if decimals >= BALANCE_DECIMALS {
        value / 10_i128.pow(u32::from(decimals - BALANCE_DECIMALS))
    } else {
        value * 10_i128.pow(u32::from(BALANCE_DECIMALS - decimals))
    }
}

/// The venues' budgets.
pub(super) fn rate_limits(sources: &StatusSources) -> Vec<RateLimitStatus> {
    let row = |limit: RateLimit| RateLimitStatus {
        name: limit.name,
        used: limit.used,
        limit: limit.limit,
        window_ms: ms(limit.window),
    };
    (sources.rate_limits)().into_iter().map(row).collect()
}

/// Every strategy that has published.
pub(super) fn strategies(sources: &StatusSources) -> Vec<StrategyStatus> {
    let row = |watched: &Watched<StrategyView>| {
        watched.read(|view| StrategyStatus {
            id: watched.actor().to_owned(),
            books: view.books,
            trades: view.trades,
            reports: view.reports,
            intents: view.intents,
            busy: view.busy,
            note: view.note.clone(),
        })
    };
    sources.strategies.iter().filter_map(row).collect()
}

/// The journal writer.
pub(super) fn journal(sources: &StatusSources) -> Option<JournalStatus> {
    sources.journal.as_ref()?.read(|view| JournalStatus {
        records: view.records,
        bytes: view.bytes,
        holes: view.holes,
        segments: view.segments,
        last_seq: view.last_seq,
        write_max_us: view.write_max_ns / 1_000,
    })
}

/// The last events.
pub(super) fn events(sources: &StatusSources) -> Vec<EventStatus> {
    let mut lines = (sources.events)();
    lines.drain(..lines.len().saturating_sub(EVENTS_MAX));
    let row = |line: EventLine| {
        // The name stands in its own column.
        let named = format!("event={}", line.event);
        let text = line.text.strip_prefix(&named).unwrap_or(&line.text).trim_start();
        EventStatus { utc: line.utc.to_string(), text: text.to_owned(), event: line.event }
    };
    lines.into_iter().map(row).collect()
}

/// Venue and symbol of an instrument.
pub(super) fn names(sources: &StatusSources, id: InstrumentId) -> (String, String) {
    match sources.instruments.get(id.index()) {
        Some(instrument) => (instrument.venue_name.to_string(), instrument.symbol.to_string()),
        None => (String::new(), format!("#{}", id.0)),
    }
}

/// Decimals of price and quantity.
pub(super) fn decimals(sources: &StatusSources, id: InstrumentId) -> (u8, u8) {
    let known = sources.instruments.get(id.index());
    known.map_or((0, 0), |instrument| (instrument.price_decimals, instrument.qty_decimals))
}
