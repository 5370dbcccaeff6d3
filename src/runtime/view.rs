//! A view: the newest state of one actor, published for whoever looks (the ops page, the final report).
//!
//! Publishing fills a recycled box and swaps it in: no lock, and no allocation once three boxes exist and their
//! inner buffers have grown. A view outlives its actor, so the last words of a dead generation stay readable.

use std::sync::Arc;

use crate::sync::queue::ArrayQueue;

/// Boxes kept for reuse: one being filled, one published, one being read, and one spare.
const SPARE_BOXES: usize = 4;

/// A single-slot exchange of the newest `T`; clones share it.
pub struct View<T>(Arc<Shared<T>>);

struct Shared<T> {
    newest: ArrayQueue<Box<T>>,
    spare: ArrayQueue<Box<T>>,
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Default> Default for View<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Default> View<T> {
    /// A view that nothing was published to yet.
    pub fn new() -> Self {
        Self(Arc::new(Shared { newest: ArrayQueue::new(1), spare: ArrayQueue::new(SPARE_BOXES) }))
    }

    /// Publishes what `fill` writes. The box may hold an older state: `fill` must overwrite all of it.
    pub fn publish(&self, fill: impl FnOnce(&mut T)) {
        let mut state = self.0.spare.pop().unwrap_or_default();
        fill(&mut state);
        if let Some(old) = self.0.newest.force_push(state) {
            self.recycle(old);
        }
    }

    /// The newest state, if one was published since the last call. Give it back with [`View::recycle`].
    pub fn take(&self) -> Option<Box<T>> {
        self.0.newest.pop()
    }

    /// Returns a box for reuse.
    pub fn recycle(&self, state: Box<T>) {
        // A fifth box is not needed; it is freed here.
        let _ = self.0.spare.push(state);
    }
}
