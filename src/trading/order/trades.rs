//! Which trades of one instrument were counted already.
//!
//! Trade ids rise. The newest ones are remembered one by one; a query for missed trades begins a little before the
//! newest, so that one lost just before it is found too, and what is found twice is recognized here.

/// Trades remembered one by one.
const REMEMBERED: usize = 256;

/// How many of them a query goes back.
const OVERLAP: usize = 32;

/// The trade ids of one instrument.
#[derive(Clone, Debug)]
pub(super) struct TradeIds {
    newest: Box<[u64; REMEMBERED]>,
    counted: usize,
}

impl TradeIds {
    pub(super) fn new() -> Self {
        Self { newest: Box::new([0; REMEMBERED]), counted: 0 }
    }

    /// Whether this trade was counted; 0 names none.
    pub(super) fn has(&self, id: u64) -> bool {
        id != 0 && self.newest.contains(&id)
    }

    /// Remembers a trade.
    pub(super) fn note(&mut self, id: u64) {
        self.newest[self.counted % REMEMBERED] = id;
        self.counted += 1;
    }

    /// Where a query for missed trades begins, given the newest trade counted by any generation.
    pub(super) fn query_from(&self, last: u64) -> u64 {
        let remembered = self.counted.min(OVERLAP);
        let oldest = (1..=remembered).map(|back| self.newest[(self.counted - back) % REMEMBERED]);
        oldest.min().unwrap_or_else(|| last.saturating_add(1))
    }
}
