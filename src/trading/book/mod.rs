//! Stage 2: market updates in, top of book out.

// The price levels of one instrument.
pub mod ladder;
