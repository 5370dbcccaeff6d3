//! Stage 2: market updates in, top of book out.

// The price levels of one instrument.
pub mod ladder;
// The venue's rules for keeping it: align, apply, notice every hole.
pub mod sync;
// The actor that owns the books of one feed.
pub mod builder;
