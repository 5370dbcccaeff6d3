//! What it is for, in the order in which bytes pass through it.
//!
//! ```text
//!           frame           MarketUpdate         TopOfBook         OrderIntent
//! socket --> feed::reader --> book::builder ----> strategy::runner --> order::sender <--> socket
//!            venue::decode    book::ladder        Strategy::on_book     risk::gate, venue::encode
//!                                                   ^---- ExecutionReport ----'
//! rest worker (feed::rest): snapshots, rules, reconciliation     every actor --> journal::writer
//! ```
//!
//! Stages never import each other; they meet in [`domain`] messages.

// The nouns: instruments, prices, updates, orders, reports. No I/O, no clock, no float.
pub mod domain;
// Every bound of this half: value, unit, reason.
pub mod limits;
// What each actor shows of itself to the ops page.
pub mod telemetry;
// The gate between what a strategy wants and what is sent.
pub mod risk;
// A venue is a dialect: bytes <-> domain, no socket, no clock.
pub mod venue;
// 1. Bytes -> market updates; snapshots and rules over REST.
pub mod feed;
// 2. Market updates -> top of book.
pub mod book;
// 3. Top of book, reports -> order intents.
pub mod strategy;
// 4. Order intents -> bytes; bytes -> execution reports.
pub mod order;
// What happened, replayable.
pub mod journal;
