//! What both readers of market frames, the fast and the careful one, make of a frame.

use crate::clock::UtcNs;
use crate::trading::domain::{BookTicker, DepthChunk, DepthKind, InstrumentId, Stamps, Trade};

/// A market frame that we use. The levels of a depth message are in the level buffers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Event {
    Depth(DepthHead),
    Trade(Trade),
    Ticker(BookTicker),
}

/// A depth delta without its levels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct DepthHead {
    pub(super) instrument: InstrumentId,
    pub(super) first_id: u64,
    pub(super) last_id: u64,
    pub(super) prev_id: Option<u64>,
    pub(super) venue_utc: UtcNs,
}

impl DepthHead {
    /// The chunk that all chunks of this delta look like.
    pub(super) fn chunk(self, stamps: Stamps) -> DepthChunk {
        DepthChunk {
            instrument: self.instrument,
            kind: DepthKind::Delta,
            first_id: self.first_id,
            last_id: self.last_id,
            prev_id: self.prev_id,
            stamps: Stamps { venue_utc: self.venue_utc, ..stamps },
            ..DepthChunk::default()
        }
    }
}

/// The venue's time stamp, milliseconds or microseconds since 1970 (the URL's `timeUnit` decides, so that both
/// occur). Milliseconds reach the border in the year 5138, microseconds passed it in March 1973.
pub(super) fn utc(stamp: u64) -> UtcNs {
    const MICROSECONDS_FROM: u64 = 100_000_000_000_000;
    let ns = stamp.saturating_mul(if stamp < MICROSECONDS_FROM { 1_000_000 } else { 1_000 });
    UtcNs::from_nanos(i64::try_from(ns).unwrap_or(i64::MAX))
}
