//! Depth messages on their way from text to chunks. Comes in: levels, in whatever order the message has them. Goes
//! out: chunks, bids before asks. Always: a message gives at least one chunk, the first one marked first and the
//! last one last, and none at all when anything in the message is wrong.

use crate::trading::domain::market::LEVELS_PER_CHUNK;
use crate::trading::domain::{DepthChunk, Level, MarketUpdate};

/// Most levels per side of one message: twice the largest book that the venue sends (5,000 per side). A level more
/// makes the message an error.
pub(super) const LEVELS_PER_SIDE_MAX: usize = 10_000;

/// The levels of the message in hand; kept, so that decoding allocates nothing after warm-up.
#[derive(Clone, Debug, Default)]
pub(super) struct Levels {
    pub(super) bids: Vec<Level>,
    pub(super) asks: Vec<Level>,
}

impl Levels {
    pub(super) fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
    }

    /// Gives the levels to `sink` in chunks that look like `head` otherwise.
    pub(super) fn emit(&self, head: DepthChunk, sink: &mut dyn FnMut(MarketUpdate)) {
        let (mut bids, mut asks) = (self.bids.as_slice(), self.asks.as_slice());
        let mut first = true;
        loop {
            let mut chunk = DepthChunk { first, ..head };
            let n = bids.len().min(LEVELS_PER_CHUNK);
            let (now, later) = bids.split_at(n);
            chunk.levels[..n].copy_from_slice(now);
            bids = later;
            let m = asks.len().min(LEVELS_PER_CHUNK - n);
            let (now, later) = asks.split_at(m);
            chunk.levels[n..n + m].copy_from_slice(now);
            asks = later;
            // Both are at most LEVELS_PER_CHUNK, far below 256.
            (chunk.bids, chunk.len) = (n as u8, (n + m) as u8);
            chunk.last = bids.is_empty() && asks.is_empty();
            first = false;
            sink(MarketUpdate::Depth(chunk));
            if chunk.last {
                return;
            }
        }
    }
}
