//! Stage 1: bytes in, market updates out.

// The market stream: one connection, decoded.
pub mod reader;
// Snapshots and rules over REST.
pub mod rest;
