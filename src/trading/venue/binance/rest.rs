//! Signed REST calls for when the order session is gone: cancel everything, see what is open, see the account. Comes
//! in: a symbol and the time. Goes out: a request to send, and what its answer means. Always: percent-encoded before
//! it is signed (rest-api.md, "SIGNED request security").

use std::fmt;
use std::time::Duration;

use crate::clock::UtcNs;
use crate::trading::domain::Instrument;
use crate::trading::limits::BODY_BYTES_MAX;
use crate::trading::venue::{Balance, DecodeError, VenueOrder};

use super::account::{self, Account};
use super::market::{ascii, check_size};
use super::order::{whole_recv_window, window_ms};
use super::parse::typed;
use super::sign::{Credentials, SignError, Signer, percent_encode};
use super::symbols::Symbols;

/// A request without its base URL and without a body.
#[derive(Clone, PartialEq, Eq)]
pub struct RestRequest {
    /// `GET` or `DELETE`.
    pub method: &'static str,
    /// Path and signed query below the REST URL.
    pub target: String,
    /// Header names and values; one of them is the API key.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for RestRequest {
    /// Method and path only: the query holds a signature, the headers a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "RestRequest({} {path})", self.method)
    }
}

/// Makes signed REST calls for one account; independent of the order session and its actor.
#[derive(Debug)]
pub struct BinanceRest {
    signer: Signer,
    symbols: Symbols,
    recv_window: Duration,
}

impl BinanceRest {
    /// For one account; `recv_window` as for the order session.
    ///
    /// # Errors
    /// When the credentials cannot sign.
    pub fn new(
        credentials: &Credentials,
        instruments: &[Instrument],
        recv_window: Duration,
    ) -> Result<Self, SignError> {
        Ok(Self {
            signer: Signer::new(credentials)?,
            symbols: Symbols::new(instruments.iter()),
            recv_window: whole_recv_window(recv_window),
        })
    }

    /// Cancels every open order of `symbol`. The venue answers -2011 when there is none.
    pub fn cancel_all(&self, symbol: &str, utc: UtcNs) -> RestRequest {
        self.signed("DELETE", "/api/v3/openOrders", &[("symbol", symbol)], utc)
    }

    /// Lists the open orders of `symbol`; [`BinanceRest::decode_orders`] reads the answer.
    pub fn open_orders(&self, symbol: &str, utc: UtcNs) -> RestRequest {
        self.signed("GET", "/api/v3/openOrders", &[("symbol", symbol)], utc)
    }

    /// Queries balances; [`BinanceRest::decode_account`] reads the answer.
    pub fn account(&self, utc: UtcNs) -> RestRequest {
        self.signed("GET", "/api/v3/account", &[("omitZeroBalances", "true")], utc)
    }

    /// The orders in the body of a successful answer to [`BinanceRest::open_orders`] or
    /// [`BinanceRest::cancel_all`].
    ///
    /// # Errors
    /// When it is not what the documentation promises.
    pub fn decode_orders(&self, body: &[u8]) -> Result<Vec<VenueOrder>, DecodeError> {
        check_size(body, BODY_BYTES_MAX)?;
        account::canceled(body, &self.symbols)
    }

    /// The balances in the body of a successful answer to [`BinanceRest::account`].
    ///
    /// # Errors
    /// When it is not what the documentation promises.
    pub fn decode_account(&self, body: &[u8]) -> Result<Vec<Balance>, DecodeError> {
        check_size(body, BODY_BYTES_MAX)?;
        typed::<Account<'_>>(body, "account")?.decode(body)
    }

    fn signed(
        &self,
        method: &'static str,
        path: &str,
        params: &[(&str, &str)],
        utc: UtcNs,
    ) -> RestRequest {
        let mut query = Vec::new();
        let (window, time) = (window_ms(self.recv_window).to_string(), utc.as_millis().to_string());
        let common = [("recvWindow", window.as_str()), ("timestamp", time.as_str())];
        for (name, value) in params.iter().chain(&common) {
            if !query.is_empty() {
                query.push(b'&');
            }
            query.extend_from_slice(name.as_bytes());
            query.push(b'=');
            percent_encode(value.as_bytes(), &mut query);
        }
        let mut signature = Vec::new();
        self.signer.sign(&query, &mut signature);
        query.extend_from_slice(b"&signature=");
        percent_encode(&signature, &mut query);
        let headers = vec![("X-MBX-APIKEY".to_owned(), self.signer.api_key().to_owned())];
        RestRequest { method, target: format!("{path}?{}", ascii(query)), headers }
    }
}
