//! Tests that link the crate, in one binary. Each module says what it proves.
#![allow(clippy::print_stdout, reason = "tests tell what they measured and what they skipped")]

// Runtime: panics, faults, intensity, drain, pills, stale generations, with toy actors only.
mod supervision;
// Mailboxes: the checklist and the conservation law.
mod mailbox;
// Streams, TLS, WebSocket, HTTP over loopback and memory.
mod net;
// Frames of the real venue -> domain, and back; garbage and truncation.
mod decode;
// Signatures against published vectors.
mod signatures;
// Real recordings: every book rebuilt without a gap.
mod recordings;
// Orders: lifecycle table, risk table, session and reconciliation.
mod orders;
// Journal: round trip, torn tails, verify.
mod journal;
// The simulated venue: matching, accounts, wire.
mod venue;
// The venue's market data against the documentation and against itself.
mod venue_market;
// Its orders and accounts: every kind, filters, limits, money.
mod venue_orders;
// The simulated venue: its WebSocket side by the words of its documentation.
mod venue_ws;
// Its REST side against the public documentation, row by row.
mod venue_docs;
// Its money and matching against a naive reference.
mod venue_money;
// Whatever clients send, the venue stands and its money is whole.
mod venue_fuzz;
// The simulated venue: faults, connection rules, control.
mod venue_faults;
// Fifty slow and dead clients over real sockets, and one that must not notice.
mod venue_clients;
// Status, metrics, dashboard, log.
mod ops;
// A world of memory around the whole engine.
mod world;
// The whole engine and the venue, stepped through a minute of trading with faults.
mod simulation;
// What process tests share.
mod process;
// The built engine as an operator runs it.
mod engine;
// SIGSTOP and storms of signals.
mod suspension;
// Signals at the worst moments, venues that answer nothing, logs that nobody reads.
mod signals;
// Threads on cores: few of them, none of them, moved ones.
mod placement;
// Threads and descriptors that the system refuses.
mod limits;
// What the runtime does when it fails itself, or when it must wait for others; on real threads.
mod toys;
// SIGHUP reads the configuration again.
mod reload;
// --fault on the built engine.
mod faults;
// `pindrop drill` on the built binary.
mod drill;
// A recorded day, traded over real sockets.
mod recorded;
// The files in config/, and what `check` says.
mod config;
