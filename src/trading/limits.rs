//! Every bound of the trading half: value, unit, reason.

use std::time::Duration;

/// Depth messages that may wait for a book builder: a 5,000-level snapshot (715 chunks) plus one second of the
/// busiest recorded feed (300 messages of up to 3 chunks), times four for a builder that is late.
pub const FEED_MAILBOX: usize = 8_192;

/// Order intents that may wait. More than this and the strategy decides on the past: it gets them back as `Busy`.
pub const INTENT_MAILBOX: usize = 64;

/// Execution reports that may wait for a strategy: every open order filled in hundreds of pieces.
pub const REPORT_MAILBOX: usize = 65_536;

/// Trades that may wait for a strategy; the newest are dropped and counted beyond.
pub const TRADE_MAILBOX: usize = 4_096;

/// Requests that may wait for the rest worker: a resync and a rules query of every instrument.
pub const REST_MAILBOX: usize = 256;

/// Journal records that may wait: one second at 16,000 records per second.
pub const JOURNAL_MAILBOX: usize = 16_384;

/// Messages an actor handles in one turn, so that control is never far away.
pub const TURN_MESSAGES_MAX: usize = 64;

/// Open orders the order sender can hold, all strategies together.
pub const OPEN_ORDERS_MAX: usize = 1_024;

/// An order sender that did not run for longer than this reconciles before it sends a new order. It equals the
/// default receive window: what a frozen sender had in hand is refused by the venue from there on, too. An idle sender
/// turns at least every 100 ms, and a machine under load was seen to keep a thread waiting for some 8 ms.
pub const FENCE_GAP: Duration = Duration::from_secs(2);

/// Cancels of one order refused by the venue before trading goes on without waiting for it: at one per answer
/// timeout some five seconds, longer than a venue's own hiccup.
pub const CANCEL_REFUSALS_MAX: u32 = 5;

/// How often an actor publishes its view for the ops page.
pub const VIEW_PERIOD: Duration = Duration::from_millis(100);

/// Longest wait for a connection: DNS, TCP, TLS and WebSocket handshake together.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A REST call that takes longer is given up.
pub const REST_DEADLINE: Duration = Duration::from_secs(3);

/// Largest WebSocket message accepted from a venue, in bytes: a 5,000-level snapshot has some 350 kB.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest HTTP body accepted from a venue, in bytes: the full exchangeInfo has some 20 MB with permission sets.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
