//! Binance Spot, after its public documentation (`binance/binance-spot-api-docs`): bytes come in and domain messages
//! go out, and the other way round. Always: pure, and no frame makes it panic. The market half also reads Binance's
//! futures.

// Market frames -> updates: the whole dialect, the fast reader, the careful reader, what both give.
mod depth;
mod event;
mod market;
mod parse;
mod scan;
// exchangeInfo -> rules.
mod rules;
// Orders -> frames.
mod order;
mod request;
// Frames -> reports and answers.
mod account;
mod session;
// What works without a session.
mod rest;
// Keys and signatures.
pub mod sign;
// Symbol -> instrument.
mod symbols;

pub use market::{BinanceMarket, Flavor};
pub use order::{BinanceOrders, RECV_WINDOW_MAX};
pub use rest::{BinanceRest, RestRequest};
pub use sign::{Credentials, SignError};
