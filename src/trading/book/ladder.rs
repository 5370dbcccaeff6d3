//! The price levels of one instrument.
//!
//! In: levels to set or remove, one by one or as a whole snapshot. Out: the touch, any level, all levels best
//! first, a checksum. What always holds: the ladder contains exactly the levels that were set and not removed,
//! at every depth and for every price, on the tick or off it.
//!
//! Each side keeps the neighbourhood of its touch in a *window*: one slot per price step, with a bitmap of the
//! occupied ones, so that an update is one multiplication and one store, and the next-best level is found by
//! counting zeros. What does not fit there (far away, or off the tick) stands *outside*, in a sorted vector
//! with the best level last. Updates inside the window never allocate; the outside grows by doubling, so it
//! allocates a handful of times in the life of a book. The window moves when the touch leaves it or nears its
//! far end: that costs one pass over the side and is rare.

use crate::trading::domain::{DepthChunk, Level, Price, Qty, Side};

/// Slots of a window: with a tick of 0.01 it spans 655.36, and 94 % of the recorded spot updates of BTCUSDT
/// fall into it. Half a megabyte a side, of which only what is used is ever touched. A power of two.
pub const WINDOW_SLOTS: usize = 1 << 16;

/// Most levels of one side that may stand outside the window. A venue that sends more is not believed:
/// [`Ladder::is_overfull`] turns true. The deepest books recorded have some 20,000.
pub const OUTSIDE_LEVELS_MAX: usize = 1 << 18;

/// Levels outside the window for which there is room before anything grows: a 5,000-level snapshot.
const OUTSIDE_RESERVE: usize = 8_192;

/// Where a moved window puts the touch, counted from the far end: three quarters up, since most levels are
/// behind it.
const TOUCH_SLOT: i64 = (WINDOW_SLOTS / 4 * 3) as i64;

/// A touch below this slot has too little window behind it.
const LOW_SLOT: usize = WINDOW_SLOTS / 8;

const WORDS: usize = WINDOW_SLOTS / 64;
const SUMMARIES: usize = WORDS / 64;

/// The book of one instrument: two sides of price levels.
#[derive(Debug)]
pub struct Ladder {
    /// Indexed by side: which one an update is for is hard to predict, so it must not be a branch.
    halves: [Half; 2],
    overfull: bool,
}

const SIDES: [Side; 2] = [Side::Buy, Side::Sell];
const BIDS: usize = Side::Buy as usize;
const ASKS: usize = Side::Sell as usize;

impl Default for Ladder {
    fn default() -> Self {
        Self::new()
    }
}

impl Ladder {
    /// An empty ladder, with all memory that it usually needs.
    pub fn new() -> Self {
        Self { halves: SIDES.map(Half::new), overfull: false }
    }

    /// Sets the quantity at a price; quantity 0 removes the level.
    #[inline]
    pub fn set(&mut self, side: Side, price: Price, qty: Qty) {
        let half = &mut self.halves[side as usize];
        let stored = half.set(half.sign * price.units(), qty.units());
        self.overfull |= !stored;
    }

    /// Applies every level of a piece of a delta.
    pub fn apply(&mut self, chunk: &DepthChunk) {
        for (side, levels) in SIDES.into_iter().zip([chunk.bids(), chunk.asks()]) {
            for level in levels {
                self.set(side, level.price, level.qty);
            }
        }
    }

    /// Forgets everything and takes the pieces of a snapshot. Until [`Ladder::end_snapshot`] nothing else may
    /// be asked of the ladder.
    pub fn begin_snapshot(&mut self) {
        self.overfull = false;
        self.halves.iter_mut().for_each(Half::clear);
    }

    /// Takes a piece of a snapshot.
    pub fn load(&mut self, chunk: &DepthChunk) {
        for (half, levels) in self.halves.iter_mut().zip([chunk.bids(), chunk.asks()]) {
            for level in levels {
                self.overfull |= !half.push(half.sign * level.price.units(), level.qty.units());
            }
        }
    }

    /// The snapshot is complete: orders it, and lays the windows around the touch with steps of `tick`, or,
    /// where the tick is not known yet, with the largest step that fits every price of the snapshot.
    pub fn end_snapshot(&mut self, tick: Option<Price>) {
        let common = || self.halves.iter().fold(0, |step, half| gcd(step, half.common_step()));
        let step = tick.map(Price::units).filter(|tick| *tick > 0).unwrap_or_else(common);
        self.halves.iter_mut().for_each(|half| half.end_snapshot(step));
    }

    /// Lays the windows anew with steps of `tick`, if they have other steps. The levels stay.
    pub fn set_tick(&mut self, tick: Price) {
        for half in &mut self.halves {
            if tick.units() > 0 && half.step != tick.units() {
                half.lay_again(tick.units());
            }
        }
    }

    /// The best bid.
    pub fn best_bid(&self) -> Option<Level> {
        self.halves[BIDS].best_level()
    }

    /// The best ask.
    pub fn best_ask(&self) -> Option<Level> {
        self.halves[ASKS].best_level()
    }

    /// Whether the best bid is at or above the best ask.
    pub fn is_crossed(&self) -> bool {
        match (self.halves[BIDS].best(), self.halves[ASKS].best()) {
            (Some((bid, _)), Some((ask, _))) => bid >= -ask,
            _ => false,
        }
    }

    /// The quantity at a price; 0 where there is no level.
    pub fn qty_at(&self, side: Side, price: Price) -> Qty {
        let half = &self.halves[side as usize];
        Qty::from_units(half.qty_at(half.sign * price.units()))
    }

    /// The levels of one side, best first.
    pub fn levels(&self, side: Side) -> impl Iterator<Item = Level> + '_ {
        let half = &self.halves[side as usize];
        half.iter().map(|entry| half.level(entry))
    }

    /// The number of levels of one side.
    pub fn level_count(&self, side: Side) -> usize {
        self.halves[side as usize].len()
    }

    /// Whether a level was refused since the last snapshot, because there are more than a sane venue has. The
    /// ladder is then no longer exact.
    pub fn is_overfull(&self) -> bool {
        self.overfull
    }

    /// The checksum that `telemetry::BookView` describes.
    pub fn checksum(&self) -> u32 {
        let all = self.levels(Side::Buy).chain(self.levels(Side::Sell));
        all.fold(0, |sum, level| {
            let sum = crc32c::crc32c_append(sum, &level.price.units().to_le_bytes());
            crc32c::crc32c_append(sum, &level.qty.units().to_le_bytes())
        })
    }
}

/// The greatest common divisor; 0 for two zeros.
fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// One side. Keys are prices, negated for asks, so that on both sides the larger key is the better one.
#[derive(Debug)]
struct Half {
    /// What turns prices into keys and keys into prices: 1 for bids, -1 for asks.
    sign: i64,
    /// Price units per slot.
    step: i64,
    /// The key of slot 0, a multiple of `step`.
    base: i64,
    /// The inverse of the odd part of `step` modulo 2^64: multiplying by it divides exactly.
    inverse: u64,
    /// The power of two in `step`.
    shift: u32,
    /// One more than the best occupied slot; 0 when the window is empty.
    top: usize,
    /// Occupied slots.
    inside: usize,
    /// The quantity of each slot; meaningless where the slot is not occupied.
    qtys: Box<[i64; WINDOW_SLOTS]>,
    /// Which slots are occupied.
    words: Box<[u64; WORDS]>,
    /// Which words are not zero.
    summaries: [u64; SUMMARIES],
    /// Everything else as (key, quantity), ascending, so that the best stands last.
    outside: Vec<(i64, i64)>,
    /// Room for laying the window anew.
    scratch: Vec<(i64, i64)>,
}

impl Half {
    fn new(side: Side) -> Self {
        let zeros = vec![0; WINDOW_SLOTS].into_boxed_slice();
        let mut half = Self {
            sign: side.sign(),
            step: 1,
            base: 0,
            inverse: 1,
            shift: 0,
            top: 0,
            inside: 0,
            qtys: zeros.try_into().expect("the slice was made with this length"),
            words: Box::new([0; WORDS]),
            summaries: [0; SUMMARIES],
            outside: Vec::with_capacity(OUTSIDE_RESERVE),
            scratch: Vec::with_capacity(OUTSIDE_RESERVE),
        };
        half.set_step(1);
        half
    }

    /// The slot of `key`; `WINDOW_SLOTS` or more when it is off the step or not in the window.
    ///
    /// The product with the inverse, rotated, is below `WINDOW_SLOTS` exactly if the distance to the base is
    /// that many whole steps: one multiplication checks the step, the range and the sign.
    #[inline]
    fn slot(&self, key: i64) -> usize {
        let distance = key.wrapping_sub(self.base).cast_unsigned();
        let slot = distance.wrapping_mul(self.inverse).rotate_right(self.shift);
        usize::try_from(slot).unwrap_or(usize::MAX)
    }

    fn key(&self, slot: usize) -> i64 {
        // A slot is below 2^16 and the window was laid so that its keys fit.
        self.base + slot as i64 * self.step
    }

    /// Sets or removes a level; false when there is no room for it.
    #[inline]
    fn set(&mut self, key: i64, qty: i64) -> bool {
        let slot = self.slot(key);
        if slot >= WINDOW_SLOTS {
            return self.set_outside(key, qty);
        }
        let (word, bit) = (slot / 64, 1_u64 << (slot % 64));
        let before = self.words[word];
        if qty != 0 {
            self.qtys[slot] = qty;
            self.words[word] = before | bit;
            if before & bit == 0 {
                self.inside += 1;
                self.summaries[word / 64] |= 1 << (word % 64);
                self.top = self.top.max(slot + 1);
            }
        } else if before & bit != 0 {
            self.words[word] = before & !bit;
            self.inside -= 1;
            if before == bit {
                self.summaries[word / 64] &= !(1 << (word % 64));
            }
            if self.top == slot + 1 {
                self.top_removed(slot);
            }
        }
        true
    }

    /// The best level of the window is gone: finds the next, and moves the window when little is left behind
    /// it.
    fn top_removed(&mut self, slot: usize) {
        self.top = self.occupied_below(slot).map_or(0, |next| next + 1);
        // The best level outside may be off the step and above the window's: then nothing needs to move.
        if self.top <= LOW_SLOT
            && let Some(&(outside, _)) = self.outside.last()
            && (self.top == 0 || outside < self.base)
        {
            let touch = if self.top == 0 { outside } else { self.key(self.top - 1) };
            self.lay(touch);
        }
    }

    /// The best occupied slot below `slot`.
    #[inline]
    fn occupied_below(&self, slot: usize) -> Option<usize> {
        let word = slot / 64;
        let rest = self.words[word] & ((1_u64 << (slot % 64)) - 1);
        if rest != 0 {
            return Some(word * 64 + last_bit(rest));
        }
        let mut summary = word / 64;
        let mut rest = self.summaries[summary] & ((1_u64 << (word % 64)) - 1);
        loop {
            if rest != 0 {
                let word = summary * 64 + last_bit(rest);
                return Some(word * 64 + last_bit(self.words[word]));
            }
            summary = summary.checked_sub(1)?;
            rest = self.summaries[summary];
        }
    }

    #[cold]
    fn set_outside(&mut self, key: i64, qty: i64) -> bool {
        let found = self.outside.binary_search_by_key(&key, |(k, _)| *k);
        match (found, qty) {
            (Ok(at), 0) => {
                self.outside.remove(at);
            }
            (Ok(at), qty) => self.outside[at].1 = qty,
            (Err(_), 0) => {}
            (Err(_), _) if self.outside.len() >= OUTSIDE_LEVELS_MAX => return false,
            (Err(at), qty) => {
                self.outside.insert(at, (key, qty));
                // A new touch belongs into the window, unless it is off the step.
                if key % self.step == 0 && self.best() == Some((key, qty)) {
                    self.lay(key);
                }
            }
        }
        true
    }

    /// Moves the window so that `touch` stands at its usual place in it.
    fn lay(&mut self, touch: i64) {
        let mut all = std::mem::take(&mut self.scratch);
        all.clear();
        all.extend(self.iter());
        self.clear();
        let steps = touch.div_euclid(self.step);
        self.base = steps.saturating_sub(TOUCH_SLOT).saturating_mul(self.step);
        for &(key, qty) in all.iter().rev() {
            let slot = self.slot(key);
            if slot < WINDOW_SLOTS {
                self.set(key, qty);
            } else {
                self.outside.push((key, qty));
            }
        }
        self.scratch = all;
    }

    fn lay_again(&mut self, step: i64) {
        let mut all = std::mem::take(&mut self.scratch);
        all.clear();
        all.extend(self.iter());
        self.clear();
        self.outside.extend(all.iter().rev());
        self.scratch = all;
        self.end_snapshot(step);
    }

    fn set_step(&mut self, step: i64) {
        self.step = step.max(1);
        self.shift = self.step.trailing_zeros();
        let odd = self.step.cast_unsigned() >> self.shift;
        // Newton's iteration: 3 bits are right at first, and every round doubles them: 6, 12, 24, 48, 96.
        let mut inverse = odd;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        }
        self.inverse = inverse;
    }

    fn clear(&mut self) {
        self.words.fill(0);
        self.summaries.fill(0);
        self.top = 0;
        self.inside = 0;
        self.outside.clear();
    }

    /// Takes a level of a snapshot, in any order; false when there is no room for it.
    fn push(&mut self, key: i64, qty: i64) -> bool {
        let room = self.outside.len() < OUTSIDE_LEVELS_MAX;
        if room {
            self.outside.push((key, qty));
        }
        room
    }

    /// The largest step that divides every price outside; 0 when there is none.
    fn common_step(&self) -> i64 {
        self.outside.iter().fold(0, |step, (key, _)| gcd(step, key.saturating_abs()))
    }

    fn end_snapshot(&mut self, step: i64) {
        // Stable, so that of two entries for one price the later one is known; it wins.
        self.outside.sort_by_key(|(key, _)| *key);
        self.outside.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = later.1;
            }
            same
        });
        self.outside.retain(|(_, qty)| *qty != 0);
        // A step so large that the window's keys would not fit is no step; prices are far below.
        self.set_step(step.clamp(1, i64::MAX >> 18));
        if let Some(&(touch, _)) = self.outside.last() {
            self.lay(touch);
        }
    }

    fn len(&self) -> usize {
        self.inside + self.outside.len()
    }

    fn level(&self, (key, qty): (i64, i64)) -> Level {
        Level { price: Price::from_units(self.sign * key), qty: Qty::from_units(qty) }
    }

    fn best_level(&self) -> Option<Level> {
        self.best().map(|entry| self.level(entry))
    }

    #[inline]
    fn best(&self) -> Option<(i64, i64)> {
        let outside = self.outside.last().copied();
        let Some(slot) = self.top.checked_sub(1) else { return outside };
        let inside = (self.key(slot), self.qtys[slot]);
        Some(outside.map_or(inside, |o| o.max(inside)))
    }

    fn qty_at(&self, key: i64) -> i64 {
        let slot = self.slot(key);
        if slot < WINDOW_SLOTS {
            let occupied = self.words[slot / 64] & (1 << (slot % 64)) != 0;
            return if occupied { self.qtys[slot] } else { 0 };
        }
        let found = self.outside.binary_search_by_key(&key, |(k, _)| *k);
        found.map_or(0, |at| self.outside[at].1)
    }

    fn iter(&self) -> BestFirst<'_> {
        BestFirst { half: self, slot: self.top.checked_sub(1), outside: self.outside.len() }
    }
}

fn last_bit(word: u64) -> usize {
    63 - word.leading_zeros() as usize
}

/// The levels of a side, best first, as (key, quantity): the window and the outside, merged.
struct BestFirst<'a> {
    half: &'a Half,
    /// The next slot to give.
    slot: Option<usize>,
    /// Outside levels not given yet.
    outside: usize,
}

impl Iterator for BestFirst<'_> {
    type Item = (i64, i64);

    fn next(&mut self) -> Option<Self::Item> {
        let half = self.half;
        let inside = self.slot.map(|slot| (half.key(slot), half.qtys[slot]));
        let outside = self.outside.checked_sub(1).map(|at| half.outside[at]);
        // `None` is less than any level, and a key is on one side of the window's edge only.
        if inside > outside {
            self.slot = self.slot.and_then(|slot| half.occupied_below(slot));
            inside
        } else {
            self.outside = self.outside.saturating_sub(1);
            outside
        }
    }
}

#[cfg(test)]
#[path = "ladder_tests.rs"]
mod tests;
