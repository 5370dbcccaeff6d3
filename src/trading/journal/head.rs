//! The head of a segment: what makes the file readable alone. Instruments and positions in, bytes out, and back.
//!
//! ```text
//! offset  0  len u32, crc32c u32          as in a record
//!         8  magic 8 bytes
//!        16  version u16, rows u16
//!        20  previous crc u32             of the last record of the segment before
//!        24  first number u64
//!        32  boot i64                     nanoseconds since 1970
//!        40  dropped u64                  market records dropped by this process before
//!        48  rows: venue, symbol, decimals, position or none; zeros up to a multiple of 8
//! ```

use crate::clock::UtcNs;
use crate::trading::domain::instrument::Name;
use crate::trading::domain::{Instrument, Notional, SignedQty};

use super::bytes::{Cursor, put_i64, put_i128, put_text, put_u16, put_u64};
use super::record::{RecordError, checksum, padded};

/// The first bytes of a segment, behind its length and checksum.
const MAGIC: [u8; 8] = *b"PINDROPJ";
/// The form of the head written here.
const HEAD_VERSION: u16 = 1;
/// Bytes of a head before its instrument rows.
const HEAD_FIXED_BYTES: usize = 48;
/// The newest position of an instrument that the journal knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CarriedPosition {
    /// Net quantity.
    pub qty: SignedQty,
    /// What the open part cost, in notional units, negative when short.
    pub cost: Notional,
    /// Realized profit, fees included, in notional units.
    pub realized_pnl: Notional,
    /// Fees paid, in notional units.
    pub fees: Notional,
    /// The newest trade counted in.
    pub last_trade_id: u64,
}

/// One instrument as a segment's head names it; records refer to its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstrumentRow {
    /// The venue's name in the configuration.
    pub venue: Name,
    /// The venue's spelling.
    pub symbol: Name,
    /// Digits behind the point of a price unit.
    pub price_decimals: u8,
    /// Digits behind the point of a quantity unit.
    pub qty_decimals: u8,
    /// Its position when the segment began; in a [`Recovery`](super::segment::Recovery), when the journal ended.
    pub position: Option<CarriedPosition>,
}

impl InstrumentRow {
    pub(super) fn of(instrument: &Instrument) -> Self {
        Self {
            venue: instrument.venue_name,
            symbol: instrument.symbol,
            price_decimals: instrument.price_decimals,
            qty_decimals: instrument.qty_decimals,
            position: None,
        }
    }

    /// Whether both speak of one instrument in one scale.
    pub(super) fn names_same(&self, other: &Self) -> bool {
        Self { position: None, ..*self } == Self { position: None, ..*other }
    }
}

/// The head of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The checksum of the last record of the segment before; 0 for the first.
    pub previous_crc: u32,
    /// The number of the first record.
    pub first_number: u64,
    /// When the process that wrote it began: monotonic times belong to it.
    pub boot: UtcNs,
    /// Market records this process had dropped before.
    pub dropped_total: u64,
    /// The instruments by index, then instruments of earlier processes that have a position.
    pub rows: Vec<InstrumentRow>,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let rows = u16::try_from(self.rows.len()).expect("instrument ids have 16 bits");
        let mut out = vec![0; 8];
        out.extend_from_slice(&MAGIC);
        put_u16(&mut out, HEAD_VERSION);
        put_u16(&mut out, rows);
        out.extend_from_slice(&self.previous_crc.to_le_bytes());
        put_u64(&mut out, self.first_number);
        put_i64(&mut out, self.boot.as_nanos());
        put_u64(&mut out, self.dropped_total);
        for row in &self.rows {
            put_text(&mut out, &row.venue);
            put_text(&mut out, &row.symbol);
            out.extend_from_slice(&[row.price_decimals, row.qty_decimals]);
            out.push(u8::from(row.position.is_some()));
            if let Some(position) = &row.position {
                put_i64(&mut out, position.qty.units());
                put_i128(&mut out, position.cost.units());
                put_i128(&mut out, position.realized_pnl.units());
                put_i128(&mut out, position.fees.units());
                put_u64(&mut out, position.last_trade_id);
            }
        }
        let len = u32::try_from(out.len()).expect("65,535 rows stay below 4 GiB");
        out.resize(padded(out.len()), 0);
        out[..4].copy_from_slice(&len.to_le_bytes());
        let crc = checksum(&out);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The head at the front of `bytes` and its length with padding.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, usize), RecordError> {
        let mut fixed = Cursor { rest: bytes.get(..HEAD_FIXED_BYTES).ok_or(RecordError::Short)? };
        let (len, crc) = (fixed.u32()?, fixed.u32()?);
        let end = usize::try_from(len).map_err(|_| RecordError::BadLength(len))?;
        if end < HEAD_FIXED_BYTES {
            return Err(RecordError::BadLength(len));
        }
        let whole = bytes.get(..padded(end)).ok_or(RecordError::Short)?;
        if checksum(whole) != crc {
            return Err(RecordError::BadChecksum);
        }
        let (magic, version, rows) = (fixed.array::<8>()?, fixed.u16()?, fixed.u16()?);
        if magic != MAGIC || version != HEAD_VERSION {
            return Err(RecordError::BadPayload("magic or version"));
        }
        let previous_crc = fixed.u32()?;
        let (first_number, boot) = (fixed.u64()?, UtcNs::from_nanos(fixed.i64()?));
        let dropped_total = fixed.u64()?;
        let mut from = Cursor { rest: &whole[HEAD_FIXED_BYTES..end] };
        let rows = (0..rows).map(|_| take_row(&mut from)).collect::<Result<_, _>>()?;
        Ok((Self { previous_crc, first_number, boot, dropped_total, rows }, whole.len()))
    }
}

fn take_row(from: &mut Cursor<'_>) -> Result<InstrumentRow, RecordError> {
    Ok(InstrumentRow {
        venue: from.text()?,
        symbol: from.text()?,
        price_decimals: from.u8()?,
        qty_decimals: from.u8()?,
        position: if from.bool()? { Some(take_position(from)?) } else { None },
    })
}

fn take_position(from: &mut Cursor<'_>) -> Result<CarriedPosition, RecordError> {
    Ok(CarriedPosition {
        qty: SignedQty::from_units(from.i64()?),
        cost: Notional::from_units(from.i128()?),
        realized_pnl: Notional::from_units(from.i128()?),
        fees: Notional::from_units(from.i128()?),
        last_trade_id: from.u64()?,
    })
}
