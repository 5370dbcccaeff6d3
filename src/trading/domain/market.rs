//! What the market does: depth, trades, the touch. All of fixed size, passed by value.

use crate::clock::{MonoNs, UtcNs};

use super::decimal::{Price, Qty};
use super::instrument::InstrumentId;

/// Levels in one [`DepthChunk`]. 14 x 16 bytes keep a message near 300 bytes: one chunk holds nearly every
/// 100 ms update of a busy book, and a 5,000-level snapshot needs some 700 of the mailbox's places.
pub const LEVELS_PER_CHUNK: usize = 14;

/// One price level: the total quantity at a price. Quantity 0 removes the level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// The price.
    pub price: Price,
    /// The total quantity resting there.
    pub qty: Qty,
}

/// When things happened to an update on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// When the bytes were read.
    pub recv: MonoNs,
    /// The venue's own time of the event; never subtracted from a [`MonoNs`].
    pub venue_utc: UtcNs,
}

/// What a depth message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DepthKind {
    /// Changes to apply to a book.
    #[default]
    Delta,
    /// A whole book that replaces what was known.
    Snapshot,
}

/// A piece of one depth delta or snapshot; the pieces of one message follow each other directly.
#[derive(Clone, Copy, Debug, Default)]
pub struct DepthChunk {
    /// Whose book.
    pub instrument: InstrumentId,
    /// Delta or snapshot.
    pub kind: DepthKind,
    /// First update id in the delta (Binance `U`); for a snapshot equal to `last_id`.
    pub first_id: u64,
    /// Last update id in the delta (`u`), or the snapshot's id (`lastUpdateId`).
    pub last_id: u64,
    /// The previous delta's last id (`pu`) where the venue sends it (futures).
    pub prev_id: Option<u64>,
    /// Whether this is the first piece of its message.
    pub first: bool,
    /// Whether this is the last piece of its message: only now the book is consistent.
    pub last: bool,
    /// How many of the levels, counted from the front, are bids; the rest are asks.
    pub bids: u8,
    /// How many of `levels` are used.
    pub len: u8,
    /// The levels.
    pub levels: [Level; LEVELS_PER_CHUNK],
    /// When.
    pub stamps: Stamps,
}

impl DepthChunk {
    /// The bids of this piece.
    pub fn bids(&self) -> &[Level] {
        &self.levels[..usize::from(self.bids)]
    }

    /// The asks of this piece.
    pub fn asks(&self) -> &[Level] {
        &self.levels[usize::from(self.bids)..usize::from(self.len)]
    }
}

/// A trade in the market.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trade {
    /// What was traded.
    pub instrument: InstrumentId,
    /// The venue's trade id.
    pub id: u64,
    /// At which price.
    pub price: Price,
    /// How much.
    pub qty: Qty,
    /// Whether the buyer's order was resting, so that a seller was the aggressor.
    pub buyer_is_maker: bool,
    /// When.
    pub stamps: Stamps,
}

/// The best bid and ask as the venue publishes them (Binance `bookTicker`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BookTicker {
    /// Whose touch.
    pub instrument: InstrumentId,
    /// The book update id it belongs to.
    pub update_id: u64,
    /// Best bid.
    pub bid: Level,
    /// Best ask.
    pub ask: Level,
    /// When.
    pub stamps: Stamps,
}

/// Why a feed lost its continuity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// A connection was opened: what follows is a new stream.
    Connected,
    /// The connection is gone.
    Disconnected,
    /// The mailbox overran.
    Overrun,
    /// A message could not be decoded.
    Undecodable,
}

/// What the feed reader tells the book builder.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "a box per update would allocate on the hot path")]
pub enum MarketUpdate {
    /// A piece of a delta or snapshot.
    Depth(DepthChunk),
    /// A trade.
    Trade(Trade),
    /// The venue's own touch.
    Ticker(BookTicker),
    /// The stream of an instrument has a hole here.
    Reset {
        /// Whose stream.
        instrument: InstrumentId,
        /// Why.
        reason: ResetReason,
        /// When it was noticed.
        at: MonoNs,
    },
}

/// Whether a book may be traded on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BookState {
    /// Waiting for a snapshot that aligns.
    #[default]
    Syncing,
    /// Complete and continuous.
    Live,
    /// A hole was found; a resync is under way.
    Gap,
    /// The feed is disconnected or has been silent for too long.
    Stale,
}

impl BookState {
    /// The word used in status and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Syncing => "syncing",
            Self::Live => "live",
            Self::Gap => "gap",
            Self::Stale => "stale",
        }
    }
}

/// What the book builder tells strategies: the touch, and whether to believe it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopOfBook {
    /// Whose touch.
    pub instrument: InstrumentId,
    /// Whether the book may be traded on.
    pub state: BookState,
    /// The last update id applied.
    pub update_id: u64,
    /// Best bid, if there is one.
    pub bid: Option<Level>,
    /// Best ask, if there is one.
    pub ask: Option<Level>,
    /// When the update was read and what the venue said.
    pub stamps: Stamps,
    /// When the book had applied it.
    pub booked: MonoNs,
}

impl TopOfBook {
    /// The middle between bid and ask, rounded down to a price unit; `None` unless both sides are there.
    pub fn mid(&self) -> Option<Price> {
        let (bid, ask) = (self.bid?.price.units(), self.ask?.price.units());
        Some(Price::from_units(bid + (ask - bid) / 2))
    }
}

/// A book builder's request for a snapshot; the rest worker answers with chunks of kind `Snapshot`, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Whose book.
    pub instrument: InstrumentId,
}
