//! A venue to trade against, locally, in the real dialect: Binance Spot over real or in-memory sockets.
//!
//! Invariant: shares no code with `trading::book`, `trading::order`, `trading::risk` or `trading::strategy`, so that
//! the venue and the engine can disagree.

// What the venue is: symbols, accounts, market, fees.
pub mod settings;
// JSON text and decimals, written by hand because order and digits are part of the wire format.
pub mod json;
// Moments in microseconds, for who asks for them.
mod micros;
// Words of an order: side, kind, status, and the order itself.
pub mod order;
// Refusals with the venue's codes and words.
pub mod refusal;
// Price-time priority book: pure.
pub mod matching;
// Balances, orders and fills of one account: pure.
pub mod account;
// A symbol and its market: liquidity, tape.
pub mod listing;
// What a symbol's filters say to an order.
pub mod filters;
// Request weight and unfilled orders: 429 and 418.
pub mod limits;
// Candles of every interval from four bounded rings.
pub mod candles;
// An invented past of trades and candles.
mod past;
// Price statistics over a window, and how they look on the wire.
mod tickers;
// Joins books and accounts: placing, triggering, cancelling. Pure.
pub mod exchange;
// Trades, prevented trades and ends of orders, on the accounts. Pure.
mod settling;
// Which stop orders a trade price triggers. Pure.
pub mod stops;
// What a venue keeps from one life to the next.
mod saved;
// A seeded market that looks alive.
pub mod market;
// A recorded day as a market.
pub mod recording;
// Keys and signatures, the verifying side.
pub mod sign;
// Which calls there are, their weights and parameters.
pub mod calls;
// One request model for REST and WebSocket API: parameters, keys, time.
pub mod request;
// What each request does: the public half.
pub mod api;
// What each request does: orders and accounts.
pub mod private;
// Orders whose quantity is reduced in place.
mod amends;
// What each request does: past orders and trades.
pub mod history;
// What the market data requests do.
mod market_calls;
// How orders, reports and books look on the wire.
pub mod wire;
// What the venue tells of its rules.
pub mod info;
// Market stream subscriptions.
pub mod streams;
// Streams that tell by the clock: candles, tickers, averages.
mod market_streams;
// Faults on demand.
pub mod faults;
// Requests for faults.
mod fault_request;
// One WebSocket API connection: logon, subscriptions, envelopes.
pub mod session;
// What is sent, in which order and when.
mod outbound;
// Requests on all three transports.
mod serving;
// `/sim`: the truth for tests, faults, moving the market.
mod control;
// ACTOR sim_venue.
pub mod venue;
