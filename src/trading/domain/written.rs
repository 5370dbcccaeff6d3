//! The watermark between the journal writer, which moves it, and the order sender, which waits for it.
//!
//! In: a number for each order or report record, and how far the writer has got. Out: the last record that is
//! written. What always holds: who sees a number here also sees what was done before it was put up.

use std::sync::Arc;

use crate::sync::atomic::{AtomicU64, Ordering};

/// How far the journal has got with order and report records; shared by the order sender, which waits for it,
/// and the journal writer, which moves it. Outlives both.
#[derive(Clone, Debug, Default)]
pub struct Written(Arc<Marks>);

#[derive(Debug, Default)]
struct Marks {
    handed: AtomicU64,
    written: AtomicU64,
}

impl Written {
    /// The number for the next record; called by the order sender only.
    pub fn next(&self) -> u64 {
        self.0.handed.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Every record up to `seq` that will ever be written is written; called by the journal writer only.
    pub fn advance(&self, seq: u64) {
        self.0.written.store(seq, Ordering::Release);
    }

    /// The last record that is written.
    pub fn up_to(&self) -> u64 {
        self.0.written.load(Ordering::Acquire)
    }
}
