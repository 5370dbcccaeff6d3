#![doc = include_str!("ARCHITECTURE.md")]

#[cfg(panic = "abort")]
compile_error!("pindrop restarts panicking actors: build it with panic = \"unwind\"");

// The only place that reads time.
pub mod clock;
// What lock-free code is built of, under one name.
mod sync;
// How actors run: threads, mailboxes, supervision.
pub mod runtime;
// How bytes move: streams, WebSocket, HTTP.
pub mod net;
// What it is for: feeds, books, strategies, orders.
pub mod trading;
// A page to look at it: status, metrics, dashboard, log.
pub mod ops;
// A venue to trade against, in the real dialect.
pub mod sim;
// The file as typed, and the settings as meant.
pub mod config;
// The wiring table: which actor, which thread, which mailbox.
pub mod topology;
// One file per subcommand.
pub mod cli;
