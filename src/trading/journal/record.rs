//! The form of one record on disk: entries in, bytes out, and back, exactly.
//!
//! ```text
//! offset  0  len u32      bytes of the record without padding, from offset 0
//!         4  crc32c u32   over len, then everything behind this field, padding included
//!         8  number u64   the journal's own count, from 1, without a hole, across processes
//!        16  seq u64      the entry's number among order and report records of its process; 0 for others
//!        24  at u64       monotonic nanoseconds of the writing process
//!        32  utc i64      nanoseconds since 1970
//!        40  kind u16, version u16, reserved u32 = 0
//!        48  payload, then zeros up to a multiple of 8
//! ```
//!
//! All numbers are little endian. Bytes that are not exactly what [`encode`] writes are an error, never a panic.

use crate::clock::{MonoNs, UtcNs};
use crate::trading::domain::{
    BookState, Commission, Entry, ExecType, ExecutionReport, InstrumentId, Level, NewOrder,
    Notional, OrderKind, OrderRef, OrderStatus, Price, Qty, Reason, Record, Side, SignedQty,
    Stamps, TimeInForce, TopOfBook, Trade,
};

use super::bytes::{Cursor, put_i64, put_i128, put_text, put_u16, put_u64};

/// Bytes before the payload.
pub const HEAD_BYTES: usize = 48;

/// No record is longer: the longest, an execution report with full names, has some 250 bytes.
pub const RECORD_BYTES_MAX: usize = 512;

/// The form described above.
const VERSION: u16 = 1;

const KIND_ORDER: u16 = 1;
const KIND_CANCEL: u16 = 2;
const KIND_REPORT: u16 = 3;
const KIND_POSITION: u16 = 4;
const KIND_TOP: u16 = 5;
const KIND_TRADE: u16 = 6;
const KIND_TRADING: u16 = 7;
const KIND_HOLE: u16 = 8;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stored {
    /// An entry as an actor handed it over.
    Entry(Entry),
    /// Market records were dropped because the mailbox was full; noted by the journal writer itself.
    Hole {
        /// When it was noticed.
        at: MonoNs,
        /// The time of day then.
        utc: UtcNs,
        /// How many since the last hole.
        dropped: u64,
        /// How many since the process began.
        dropped_total: u64,
    },
}

/// A record that was read back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decoded {
    /// The journal's own count.
    pub number: u64,
    /// The record's checksum.
    pub crc: u32,
    /// What it holds.
    pub stored: Stored,
    /// Bytes taken, padding included.
    pub bytes: usize,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Fewer bytes than the record says it has.
    Short,
    /// The length cannot be one.
    BadLength(u32),
    /// The checksum does not fit.
    BadChecksum,
    /// A version or kind that this program does not know; the checksum fits.
    Unknown {
        /// The kind read.
        kind: u16,
        /// The version read.
        version: u16,
    },
    /// The checksum fits and the payload still makes no sense: what was expected.
    BadPayload(&'static str),
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => write!(f, "record is cut"),
            Self::BadLength(len) => write!(f, "record length {len} is impossible"),
            Self::BadChecksum => write!(f, "record checksum does not fit"),
            Self::Unknown { kind, version } => {
                write!(f, "record kind {kind} version {version} is unknown")
            }
            Self::BadPayload(what) => write!(f, "record payload: bad {what}"),
        }
    }
}

impl std::error::Error for RecordError {}

/// Appends the record number `number` to `out`; its checksum is returned.
pub fn encode(out: &mut Vec<u8>, number: u64, stored: &Stored) -> u32 {
    let start = out.len();
    let (seq, at, utc) = match stored {
        Stored::Entry(entry) => (entry.seq, entry.at, entry.utc),
        Stored::Hole { at, utc, .. } => (0, *at, *utc),
    };
    out.extend_from_slice(&[0; 8]);
    put_u64(out, number);
    put_u64(out, seq);
    put_u64(out, at.as_nanos());
    put_i64(out, utc.as_nanos());
    // The kind is known once the payload is written.
    out.extend_from_slice(&[0; 8]);
    let kind = match stored {
        Stored::Entry(entry) => put_record(out, &entry.record),
        Stored::Hole { dropped, dropped_total, .. } => {
            put_u64(out, *dropped);
            put_u64(out, *dropped_total);
            KIND_HOLE
        }
    };
    out[start + 40..start + 42].copy_from_slice(&kind.to_le_bytes());
    out[start + 42..start + 44].copy_from_slice(&VERSION.to_le_bytes());
    let len = out.len() - start;
    assert!(len <= RECORD_BYTES_MAX, "record kind {kind} has {len} bytes");
    out.resize(start + padded(len), 0);
    // The assertion above bounds it.
    out[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
    let crc = checksum(&out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// Reads the record at the front of `bytes`.
///
/// # Errors
/// See [`RecordError`]; whatever the bytes are.
pub fn decode(bytes: &[u8]) -> Result<Decoded, RecordError> {
    let head = bytes.get(..HEAD_BYTES).ok_or(RecordError::Short)?;
    let mut cursor = Cursor { rest: head };
    let len = cursor.u32()?;
    let crc = cursor.u32()?;
    let payload_end = usize::try_from(len).map_err(|_| RecordError::BadLength(len))?;
    if !(HEAD_BYTES..=RECORD_BYTES_MAX).contains(&payload_end) {
        return Err(RecordError::BadLength(len));
    }
    let whole = bytes.get(..padded(payload_end)).ok_or(RecordError::Short)?;
    if checksum(whole) != crc {
        return Err(RecordError::BadChecksum);
    }
    let number = cursor.u64()?;
    let (seq, at) = (cursor.u64()?, MonoNs::from_nanos(cursor.u64()?));
    let utc = UtcNs::from_nanos(cursor.i64()?);
    let (kind, version) = (cursor.u16()?, cursor.u16()?);
    if version != VERSION {
        return Err(RecordError::Unknown { kind, version });
    }
    if cursor.u32()? != 0 || whole[payload_end..].iter().any(|b| *b != 0) {
        return Err(RecordError::BadPayload("padding"));
    }
    let mut payload = Cursor { rest: &whole[HEAD_BYTES..payload_end] };
    let stored = if kind == KIND_HOLE {
        Stored::Hole { at, utc, dropped: payload.u64()?, dropped_total: payload.u64()? }
    } else {
        let record = take_record(kind, &mut payload)?;
        Stored::Entry(Entry { seq, at, utc, record })
    };
    if !payload.rest.is_empty() {
        return Err(RecordError::BadPayload("length"));
    }
    Ok(Decoded { number, crc, stored, bytes: whole.len() })
}

/// `len` rounded up to a multiple of 8.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// The checksum of a record or segment head: everything but the field at bytes 4..8.
pub(super) fn checksum(whole: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&whole[..4]), &whole[8..])
}

/// The number of each variant on disk. Numbers are never reused; a new variant takes the next one.
macro_rules! tags {
    ($put:ident, $take:ident, $ty:ident { $($variant:ident = $tag:literal),+ $(,)? }) => {
        fn $put(out: &mut Vec<u8>, value: $ty) {
            out.push(match value { $($ty::$variant => $tag),+ });
        }

        fn $take(from: &mut Cursor<'_>) -> Result<$ty, RecordError> {
            match from.u8()? {
                $($tag => Ok($ty::$variant),)+
                _ => Err(RecordError::BadPayload(stringify!($ty))),
            }
        }
    };
}

tags!(put_side, take_side, Side { Buy = 1, Sell = 2 });
tags!(put_kind, take_kind, OrderKind { Limit = 1, LimitMaker = 2, Market = 3 });
tags!(put_tif, take_tif, TimeInForce { Gtc = 1, Ioc = 2, Fok = 3 });
tags!(put_book_state, take_book_state, BookState { Syncing = 1, Live = 2, Gap = 3, Stale = 4 });
tags!(put_exec, take_exec, ExecType {
    PendingNew = 1, New = 2, Trade = 3, PendingCancel = 4, Canceled = 5, Rejected = 6, Expired = 7,
    CancelRejected = 8, Refused = 9, Unknown = 10,
});
tags!(put_status, take_status, OrderStatus {
    PendingNew = 1, New = 2, PartiallyFilled = 3, Filled = 4, PendingCancel = 5, Canceled = 6,
    Rejected = 7, Expired = 8, Unknown = 9,
});
tags!(put_reason, take_reason, Reason {
    Quantity = 1, PriceStep = 2, Notional = 3, Position = 4, OpenOrders = 5, OrderRate = 6,
    PriceCollar = 7, BookState = 8, DecisionAge = 9, KillSwitch = 10, NotTrading = 11,
    SessionDown = 12, JournalDown = 13, Draining = 14, Busy = 15, Restarted = 16,
    UnknownOrder = 17, Venue = 18, NeverArrived = 19, Suspended = 20,
});

/// Appends the payload; the record's kind is returned.
fn put_record(out: &mut Vec<u8>, record: &Record) -> u16 {
    match record {
        Record::Order { order, client_order_id, new } => {
            put_u64(out, order.0);
            put_text(out, client_order_id);
            put_new_order(out, new);
            KIND_ORDER
        }
        Record::Cancel { instrument, order, client_order_id } => {
            put_u16(out, instrument.0);
            put_u64(out, order.0);
            put_text(out, client_order_id);
            KIND_CANCEL
        }
        Record::Report(report) => {
            put_report(out, report);
            KIND_REPORT
        }
        Record::Position { instrument, qty, cost, realized_pnl, fees, last_trade_id } => {
            put_u16(out, instrument.0);
            put_i64(out, qty.units());
            put_i128(out, cost.units());
            put_i128(out, realized_pnl.units());
            put_i128(out, fees.units());
            put_u64(out, *last_trade_id);
            KIND_POSITION
        }
        Record::Top(top) => {
            put_top(out, top);
            KIND_TOP
        }
        Record::Trade(trade) => {
            put_trade(out, trade);
            KIND_TRADE
        }
        Record::Trading { enabled } => {
            out.push(u8::from(*enabled));
            KIND_TRADING
        }
    }
}

fn take_record(kind: u16, from: &mut Cursor<'_>) -> Result<Record, RecordError> {
    Ok(match kind {
        KIND_ORDER => Record::Order {
            order: OrderRef(from.u64()?),
            client_order_id: from.text()?,
            new: take_new_order(from)?,
        },
        KIND_CANCEL => Record::Cancel {
            instrument: InstrumentId(from.u16()?),
            order: OrderRef(from.u64()?),
            client_order_id: from.text()?,
        },
        KIND_REPORT => Record::Report(take_report(from)?),
        KIND_POSITION => Record::Position {
            instrument: InstrumentId(from.u16()?),
            qty: SignedQty::from_units(from.i64()?),
            cost: Notional::from_units(from.i128()?),
            realized_pnl: Notional::from_units(from.i128()?),
            fees: Notional::from_units(from.i128()?),
            last_trade_id: from.u64()?,
        },
        KIND_TOP => Record::Top(take_top(from)?),
        KIND_TRADE => Record::Trade(take_trade(from)?),
        KIND_TRADING => Record::Trading { enabled: from.bool()? },
        kind => return Err(RecordError::Unknown { kind, version: VERSION }),
    })
}

fn put_new_order(out: &mut Vec<u8>, new: &NewOrder) {
    put_u16(out, new.instrument.0);
    put_side(out, new.side);
    put_kind(out, new.kind);
    put_tif(out, new.tif);
    put_i64(out, new.price.units());
    put_i64(out, new.qty.units());
}

fn take_new_order(from: &mut Cursor<'_>) -> Result<NewOrder, RecordError> {
    Ok(NewOrder {
        instrument: InstrumentId(from.u16()?),
        side: take_side(from)?,
        kind: take_kind(from)?,
        tif: take_tif(from)?,
        price: Price::from_units(from.i64()?),
        qty: Qty::from_units(from.i64()?),
    })
}

fn put_report(out: &mut Vec<u8>, report: &ExecutionReport) {
    put_u16(out, report.instrument.0);
    put_u64(out, report.order.0);
    put_text(out, &report.client_order_id);
    put_u64(out, report.venue_order_id);
    put_exec(out, report.exec);
    put_status(out, report.status);
    put_side(out, report.side);
    put_i64(out, report.price.units());
    put_i64(out, report.qty.units());
    put_i64(out, report.cum_qty.units());
    put_i64(out, report.leaves_qty.units());
    put_i64(out, report.last_qty.units());
    put_i64(out, report.last_price.units());
    put_u64(out, report.trade_id);
    put_i64(out, report.commission.amount);
    put_text(out, &report.commission.asset);
    out.push(u8::from(report.reason.is_some()));
    if let Some(reason) = report.reason {
        put_reason(out, reason);
    }
    out.extend_from_slice(&report.venue_code.to_le_bytes());
    put_i64(out, report.venue_utc.as_nanos());
    put_u64(out, report.recv.as_nanos());
}

fn take_report(from: &mut Cursor<'_>) -> Result<ExecutionReport, RecordError> {
    Ok(ExecutionReport {
        instrument: InstrumentId(from.u16()?),
        order: OrderRef(from.u64()?),
        client_order_id: from.text()?,
        venue_order_id: from.u64()?,
        exec: take_exec(from)?,
        status: take_status(from)?,
        side: take_side(from)?,
        price: Price::from_units(from.i64()?),
        qty: Qty::from_units(from.i64()?),
        cum_qty: Qty::from_units(from.i64()?),
        leaves_qty: Qty::from_units(from.i64()?),
        last_qty: Qty::from_units(from.i64()?),
        last_price: Price::from_units(from.i64()?),
        trade_id: from.u64()?,
        commission: Commission { amount: from.i64()?, asset: from.text()? },
        reason: if from.bool()? { Some(take_reason(from)?) } else { None },
        venue_code: i32::from_le_bytes(from.array()?),
        venue_utc: UtcNs::from_nanos(from.i64()?),
        recv: MonoNs::from_nanos(from.u64()?),
    })
}

fn put_top(out: &mut Vec<u8>, top: &TopOfBook) {
    put_u16(out, top.instrument.0);
    put_book_state(out, top.state);
    put_u64(out, top.update_id);
    for side in [top.bid, top.ask] {
        out.push(u8::from(side.is_some()));
        if let Some(level) = side {
            put_i64(out, level.price.units());
            put_i64(out, level.qty.units());
        }
    }
    put_stamps(out, top.stamps);
    put_u64(out, top.booked.as_nanos());
}

fn take_top(from: &mut Cursor<'_>) -> Result<TopOfBook, RecordError> {
    Ok(TopOfBook {
        instrument: InstrumentId(from.u16()?),
        state: take_book_state(from)?,
        update_id: from.u64()?,
        bid: take_level(from)?,
        ask: take_level(from)?,
        stamps: take_stamps(from)?,
        booked: MonoNs::from_nanos(from.u64()?),
    })
}

fn take_level(from: &mut Cursor<'_>) -> Result<Option<Level>, RecordError> {
    if !from.bool()? {
        return Ok(None);
    }
    let price = Price::from_units(from.i64()?);
    Ok(Some(Level { price, qty: Qty::from_units(from.i64()?) }))
}

fn put_trade(out: &mut Vec<u8>, trade: &Trade) {
    put_u16(out, trade.instrument.0);
    put_u64(out, trade.id);
    put_i64(out, trade.price.units());
    put_i64(out, trade.qty.units());
    out.push(u8::from(trade.buyer_is_maker));
    put_stamps(out, trade.stamps);
}

fn take_trade(from: &mut Cursor<'_>) -> Result<Trade, RecordError> {
    Ok(Trade {
        instrument: InstrumentId(from.u16()?),
        id: from.u64()?,
        price: Price::from_units(from.i64()?),
        qty: Qty::from_units(from.i64()?),
        buyer_is_maker: from.bool()?,
        stamps: take_stamps(from)?,
    })
}

fn put_stamps(out: &mut Vec<u8>, stamps: Stamps) {
    put_u64(out, stamps.recv.as_nanos());
    put_i64(out, stamps.venue_utc.as_nanos());
}

fn take_stamps(from: &mut Cursor<'_>) -> Result<Stamps, RecordError> {
    let recv = MonoNs::from_nanos(from.u64()?);
    Ok(Stamps { recv, venue_utc: UtcNs::from_nanos(from.i64()?) })
}
