//! The careful half of the market decoder: any valid JSON, in any key order. Comes in: whatever `scan` did not take.
//! Goes out: the event, or a name for what else it is. Always: every byte is checked, and nothing unknown is an
//! error by itself.
//!
//! Fields: web-socket-streams.md (Spot); futures differ by `pu`, `T`, `ps` and an `e` in every message.

use std::borrow::Cow;
use std::ops::Deref;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::clock::UtcNs;
use crate::trading::domain::{BookTicker, Level, Price, Qty, Stamps, Trade};
use crate::trading::venue::DecodeError;

use super::depth::{LEVELS_PER_SIDE_MAX, Levels};
use super::event::{DepthHead, Event, utc};
use super::symbols::{Symbol, Symbols};

/// What a market frame is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Frame {
    Event(Event),
    Ack,
    ServerShutdown,
    Ignored,
}

/// What a frame is read with, besides its bytes.
pub(super) struct Context<'a> {
    pub(super) symbols: &'a Symbols,
    pub(super) stamps: Stamps,
    /// Futures: a delta names the one before it.
    pub(super) prev_id_required: bool,
}

/// A JSON string, copied only where it has escapes. A bare `Cow` would be copied wherever it is inside something else.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

// The outside of a frame, or of the payload in it. Single letters are those of a raw payload.
#[derive(Deserialize)]
struct Outside<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    msg: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "present")]
    result: bool,
    #[serde(borrow)]
    e: Option<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    u: bool,
    #[serde(default, deserialize_with = "present")]
    s: bool,
}

// Whether a field is there at all, `null` included.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(from).map(|_| true)
}

// A price and a quantity.
type PriceAndQty<'a> = [Text<'a>; 2];

#[derive(Deserialize)]
struct Depth<'a> {
    #[serde(rename = "E")]
    time: u64,
    #[serde(borrow)]
    s: Text<'a>,
    #[serde(rename = "U")]
    first_id: u64,
    u: u64,
    pu: Option<u64>,
    #[serde(borrow)]
    b: Vec<PriceAndQty<'a>>,
    #[serde(borrow)]
    a: Vec<PriceAndQty<'a>>,
}

#[derive(Deserialize)]
struct TradeMessage<'a> {
    #[serde(rename = "E")]
    time: u64,
    #[serde(borrow)]
    s: Text<'a>,
    t: u64,
    #[serde(borrow)]
    p: Text<'a>,
    #[serde(borrow)]
    q: Text<'a>,
    m: bool,
    // Futures only: `MARKET` for a trade in the book; others are insurance fund and deleveraging entries.
    #[serde(rename = "X", borrow)]
    kind: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Ticker<'a> {
    u: u64,
    #[serde(borrow)]
    s: Text<'a>,
    #[serde(borrow)]
    b: Text<'a>,
    #[serde(rename = "B", borrow)]
    bid_qty: Text<'a>,
    #[serde(borrow)]
    a: Text<'a>,
    #[serde(rename = "A", borrow)]
    ask_qty: Text<'a>,
    #[serde(rename = "E")]
    time: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot<'a> {
    last_update_id: u64,
    #[serde(borrow)]
    bids: Vec<PriceAndQty<'a>>,
    #[serde(borrow)]
    asks: Vec<PriceAndQty<'a>>,
    #[serde(rename = "E")]
    time: Option<u64>,
}

/// Reads one frame of the market stream: combined, raw, or an answer.
pub(super) fn frame(
    bytes: &[u8],
    context: &Context<'_>,
    levels: &mut Levels,
) -> Result<Frame, DecodeError> {
    let Some(outside) = object::<Outside<'_>>(bytes, "market frame")? else {
        return Ok(Frame::Ignored);
    };
    if let Some(data) = outside.data {
        let data = data.get().as_bytes();
        return match object::<Outside<'_>>(data, "market payload")? {
            Some(inside) => payload(&inside, data, context, levels),
            None => Ok(Frame::Ignored),
        };
    }
    if outside.error.is_some() || (outside.msg.is_some() && outside.e.is_none()) {
        return Err(DecodeError::new("the venue refused a request on the market stream", bytes));
    }
    if outside.result {
        return Ok(Frame::Ack);
    }
    payload(&outside, bytes, context, levels)
}

/// Reads a REST depth snapshot of `symbol`; gives its update id and the venue's time, where it says it.
pub(super) fn snapshot(
    body: &[u8],
    symbol: &Symbol,
    levels: &mut Levels,
) -> Result<(u64, Option<UtcNs>), DecodeError> {
    let m: Snapshot<'_> = typed(body, "depth snapshot")?;
    side(&m.bids, symbol, &mut levels.bids, body)?;
    side(&m.asks, symbol, &mut levels.asks, body)?;
    Ok((m.last_update_id, m.time.map(utc)))
}

/// Reads `T` from JSON; `what` names it in errors.
pub(super) fn typed<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, DecodeError> {
    serde_json::from_slice(bytes).map_err(|e| DecodeError::new(format!("{what}: {e}"), bytes))
}

/// Reads `T` from a JSON object; `None` for any other JSON value.
pub(super) fn object<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
    what: &str,
) -> Result<Option<T>, DecodeError> {
    // A derived reader would take an array for a struct.
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        return typed(bytes, what).map(Some);
    }
    typed::<IgnoredAny>(bytes, what).map(|_| None)
}

fn payload(
    outside: &Outside<'_>,
    bytes: &[u8],
    context: &Context<'_>,
    levels: &mut Levels,
) -> Result<Frame, DecodeError> {
    let event = match outside.e.as_deref() {
        Some("depthUpdate") => depth(bytes, context, levels)?.map(Event::Depth),
        Some("trade") => trade(bytes, context)?.map(Event::Trade),
        Some("bookTicker") => ticker(bytes, context)?.map(Event::Ticker),
        Some("serverShutdown") => return Ok(Frame::ServerShutdown),
        // Spot's bookTicker is the one message without a name that speaks of a symbol.
        None if outside.u && outside.s => ticker(bytes, context)?.map(Event::Ticker),
        _ => None,
    };
    Ok(event.map_or(Frame::Ignored, Frame::Event))
}

fn depth(
    bytes: &[u8],
    context: &Context<'_>,
    levels: &mut Levels,
) -> Result<Option<DepthHead>, DecodeError> {
    let m: Depth<'_> = typed(bytes, "depthUpdate")?;
    if context.prev_id_required && m.pu.is_none() {
        return Err(DecodeError::new("depthUpdate of futures without `pu`", bytes));
    }
    let Some(symbol) = context.symbols.find(m.s.as_bytes()) else { return Ok(None) };
    side(&m.b, symbol, &mut levels.bids, bytes)?;
    side(&m.a, symbol, &mut levels.asks, bytes)?;
    Ok(Some(DepthHead {
        instrument: symbol.id,
        first_id: m.first_id,
        last_id: m.u,
        prev_id: m.pu,
        venue_utc: utc(m.time),
    }))
}

fn trade(bytes: &[u8], context: &Context<'_>) -> Result<Option<Trade>, DecodeError> {
    let m: TradeMessage<'_> = typed(bytes, "trade")?;
    if m.kind.is_some_and(|kind| &*kind != "MARKET") {
        return Ok(None);
    }
    let Some(symbol) = context.symbols.find(m.s.as_bytes()) else { return Ok(None) };
    let Level { price, qty } = level(&m.p, &m.q, symbol, bytes)?;
    Ok(Some(Trade {
        instrument: symbol.id,
        id: m.t,
        price,
        qty,
        buyer_is_maker: m.m,
        stamps: Stamps { venue_utc: utc(m.time), ..context.stamps },
    }))
}

fn ticker(bytes: &[u8], context: &Context<'_>) -> Result<Option<BookTicker>, DecodeError> {
    let m: Ticker<'_> = typed(bytes, "bookTicker")?;
    let Some(symbol) = context.symbols.find(m.s.as_bytes()) else { return Ok(None) };
    let mut stamps = context.stamps;
    if let Some(time) = m.time {
        stamps.venue_utc = utc(time);
    }
    Ok(Some(BookTicker {
        instrument: symbol.id,
        update_id: m.u,
        bid: level(&m.b, &m.bid_qty, symbol, bytes)?,
        ask: level(&m.a, &m.ask_qty, symbol, bytes)?,
        stamps,
    }))
}

fn side(
    from: &[PriceAndQty<'_>],
    symbol: &Symbol,
    into: &mut Vec<Level>,
    bytes: &[u8],
) -> Result<(), DecodeError> {
    if from.len() > LEVELS_PER_SIDE_MAX {
        let what = format!("{} levels on a side, more than {LEVELS_PER_SIDE_MAX}", from.len());
        return Err(DecodeError::new(what, bytes));
    }
    for [price, qty] in from {
        into.push(level(price, qty, symbol, bytes)?);
    }
    Ok(())
}

fn level(price: &str, qty: &str, symbol: &Symbol, bytes: &[u8]) -> Result<Level, DecodeError> {
    let wrong = |what, text: &str, e| {
        DecodeError::new(format!("{what} {:?}: {e}", text.get(..40).unwrap_or(text)), bytes)
    };
    Ok(Level {
        price: Price::parse(price.as_bytes(), symbol.price_decimals)
            .map_err(|e| wrong("price", price, e))?,
        qty: Qty::parse(qty.as_bytes(), symbol.qty_decimals)
            .map_err(|e| wrong("quantity", qty, e))?,
    })
}
