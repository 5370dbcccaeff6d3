//! Orders, own trades, balances and execution reports as JSON. Comes in: results of queries and events of the
//! account. Goes out: domain types. Always: an order's key is the one it was placed under, also in cancels.
//!
//! Fields and enums: web-socket-api.md (order.place, order.cancel, order.status, myTrades, account.status),
//! user-data-stream.md (executionReport, outboundAccountPosition), enums.md.

use arrayvec::{ArrayString, ArrayVec};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::trading::domain::decimal::parse_scaled;
use crate::trading::domain::instrument::Name;
use crate::trading::domain::{ClientOrderId, Commission, ExecType, OrderStatus, Price, Qty, Side};
use crate::trading::venue::{
    Balance, DecodeError, EVENT_BALANCES_MAX, VenueOrder, VenueReport, VenueTrade,
};

use super::event::utc;
use super::parse::{Text, typed};
use super::symbols::{FOREIGN_DECIMALS, Symbols, name};

/// The code of a refused order (errors.md, NEW_ORDER_REJECTED); a report names the reason in words only.
const NEW_ORDER_REJECTED: i32 = -2010;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order<'a> {
    #[serde(borrow)]
    symbol: Text<'a>,
    order_id: u64,
    #[serde(borrow)]
    client_order_id: Text<'a>,
    // In cancels: the key that the order was placed under, while clientOrderId is that of the cancel.
    #[serde(borrow)]
    orig_client_order_id: Option<Text<'a>>,
    #[serde(borrow)]
    price: Text<'a>,
    #[serde(borrow)]
    orig_qty: Text<'a>,
    #[serde(borrow)]
    executed_qty: Text<'a>,
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow)]
    side: Text<'a>,
}

// What openOrders.cancelAll gives for orders that belong together.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderList<'a> {
    #[serde(borrow)]
    order_reports: Option<Vec<&'a RawValue>>,
}

/// One element of myTrades.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnTrade<'a> {
    #[serde(borrow)]
    symbol: Text<'a>,
    id: u64,
    order_id: u64,
    #[serde(borrow)]
    price: Text<'a>,
    #[serde(borrow)]
    qty: Text<'a>,
    #[serde(borrow)]
    commission: Text<'a>,
    #[serde(borrow)]
    commission_asset: Text<'a>,
    time: u64,
    is_buyer: bool,
}

/// The answer to account.status.
#[derive(Deserialize)]
pub(super) struct Account<'a> {
    #[serde(borrow)]
    balances: Vec<AccountBalance<'a>>,
}

#[derive(Deserialize)]
struct AccountBalance<'a> {
    #[serde(borrow)]
    asset: Text<'a>,
    #[serde(borrow)]
    free: Text<'a>,
    #[serde(borrow)]
    locked: Text<'a>,
}

/// outboundAccountPosition.
#[derive(Deserialize)]
pub(super) struct AccountEvent<'a> {
    // Of fixed size: these come with every fill.
    #[serde(rename = "B", borrow)]
    balances: ArrayVec<EventBalance<'a>, EVENT_BALANCES_MAX>,
}

#[derive(Deserialize)]
struct EventBalance<'a> {
    #[serde(borrow)]
    a: Text<'a>,
    #[serde(borrow)]
    f: Text<'a>,
    #[serde(borrow)]
    l: Text<'a>,
}

/// executionReport.
#[derive(Deserialize)]
pub(super) struct Report<'a> {
    #[serde(rename = "s", borrow)]
    symbol: Text<'a>,
    #[serde(rename = "c", borrow)]
    client_order_id: Text<'a>,
    #[serde(rename = "C", borrow)]
    orig_client_order_id: Option<Text<'a>>,
    #[serde(rename = "S", borrow)]
    side: Text<'a>,
    #[serde(rename = "q", borrow)]
    qty: Text<'a>,
    #[serde(rename = "p", borrow)]
    price: Text<'a>,
    #[serde(rename = "x", borrow)]
    exec: Text<'a>,
    #[serde(rename = "X", borrow)]
    status: Text<'a>,
    #[serde(rename = "i")]
    order_id: u64,
    #[serde(rename = "l", borrow)]
    last_qty: Text<'a>,
    #[serde(rename = "z", borrow)]
    cum_qty: Text<'a>,
    #[serde(rename = "L", borrow)]
    last_price: Text<'a>,
    #[serde(rename = "n", borrow)]
    commission: Option<Text<'a>>,
    #[serde(rename = "N", borrow)]
    commission_asset: Option<Text<'a>>,
    #[serde(rename = "T")]
    time: u64,
    #[serde(rename = "t")]
    trade_id: i64,
}

/// Decodes one order.
pub(super) fn order(bytes: &[u8], symbols: &Symbols) -> Result<VenueOrder, DecodeError> {
    let m: Order<'_> = typed(bytes, "order")?;
    let at = Numbers::of(&m.symbol, symbols, bytes);
    let key = match &m.orig_client_order_id {
        Some(orig) if !orig.is_empty() => orig,
        _ => &m.client_order_id,
    };
    Ok(VenueOrder {
        symbol: at.name(&m.symbol)?,
        client_order_id: at.client_order_id(key)?,
        venue_order_id: m.order_id,
        status: at.status(&m.status)?,
        side: at.side(&m.side)?,
        price: at.price(&m.price)?,
        qty: at.qty(&m.orig_qty)?,
        cum_qty: at.qty(&m.executed_qty)?,
    })
}

/// Decodes a list of orders.
pub(super) fn orders(bytes: &[u8], symbols: &Symbols) -> Result<Vec<VenueOrder>, DecodeError> {
    let all: Vec<&RawValue> = typed(bytes, "orders")?;
    all.into_iter().map(|raw| order(raw.get().as_bytes(), symbols)).collect()
}

/// Decodes what a cancel of everything gives: orders, and lists of orders, whose orders are taken out.
pub(super) fn canceled(bytes: &[u8], symbols: &Symbols) -> Result<Vec<VenueOrder>, DecodeError> {
    let all: Vec<&RawValue> = typed(bytes, "cancelled orders")?;
    let mut out = Vec::with_capacity(all.len());
    for raw in all {
        let element = raw.get().as_bytes();
        match typed::<OrderList<'_>>(element, "cancelled order")?.order_reports {
            Some(reports) => {
                for report in reports {
                    out.push(order(report.get().as_bytes(), symbols)?);
                }
            }
            None => out.push(order(element, symbols)?),
        }
    }
    Ok(out)
}

impl OwnTrade<'_> {
    pub(super) fn decode(
        &self,
        symbols: &Symbols,
        bytes: &[u8],
    ) -> Result<VenueTrade, DecodeError> {
        let at = Numbers::of(&self.symbol, symbols, bytes);
        Ok(VenueTrade {
            symbol: at.name(&self.symbol)?,
            trade_id: self.id,
            venue_order_id: self.order_id,
            side: if self.is_buyer { Side::Buy } else { Side::Sell },
            price: at.price(&self.price)?,
            qty: at.qty(&self.qty)?,
            commission: at.commission(Some(&self.commission), Some(&self.commission_asset))?,
            venue_utc: utc(self.time),
        })
    }
}

impl Account<'_> {
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<Vec<Balance>, DecodeError> {
        self.balances.iter().map(|b| balance(&b.asset, &b.free, &b.locked, bytes)).collect()
    }
}

impl AccountEvent<'_> {
    pub(super) fn decode(
        &self,
        bytes: &[u8],
    ) -> Result<ArrayVec<Balance, EVENT_BALANCES_MAX>, DecodeError> {
        self.balances.iter().map(|b| balance(&b.a, &b.f, &b.l, bytes)).collect()
    }
}

fn balance(asset: &str, free: &str, locked: &str, bytes: &[u8]) -> Result<Balance, DecodeError> {
    let at = Numbers { decimals: (FOREIGN_DECIMALS, FOREIGN_DECIMALS), bytes };
    let (free, locked) = (at.amount(free)?, at.amount(locked)?);
    Ok(Balance { asset: at.name(asset)?, free, locked })
}

impl Report<'_> {
    pub(super) fn decode(
        &self,
        symbols: &Symbols,
        bytes: &[u8],
    ) -> Result<VenueReport, DecodeError> {
        let at = Numbers::of(&self.symbol, symbols, bytes);
        let status = at.status(&self.status)?;
        let exec = at.exec(&self.exec, status)?;
        let key = match &self.orig_client_order_id {
            Some(orig) if !orig.is_empty() => orig,
            _ => &self.client_order_id,
        };
        Ok(VenueReport {
            symbol: at.name(&self.symbol)?,
            client_order_id: at.client_order_id(key)?,
            venue_order_id: self.order_id,
            exec,
            status,
            side: at.side(&self.side)?,
            price: at.price(&self.price)?,
            qty: at.qty(&self.qty)?,
            cum_qty: at.qty(&self.cum_qty)?,
            last_qty: at.qty(&self.last_qty)?,
            last_price: at.price(&self.last_price)?,
            trade_id: u64::try_from(self.trade_id).ok(),
            commission: at
                .commission(self.commission.as_deref(), self.commission_asset.as_deref())?,
            reject_code: if exec == ExecType::Rejected { NEW_ORDER_REJECTED } else { 0 },
            venue_utc: utc(self.time),
        })
    }
}

// Words and numbers of one message about one symbol.
struct Numbers<'a> {
    decimals: (u8, u8),
    bytes: &'a [u8],
}

impl<'a> Numbers<'a> {
    fn of(symbol: &str, symbols: &Symbols, bytes: &'a [u8]) -> Self {
        Self { decimals: symbols.decimals(symbol), bytes }
    }

    fn wrong(&self, what: &str, text: &str) -> DecodeError {
        let text: String = text.chars().take(40).collect();
        DecodeError::new(format!("{what} {text:?}"), self.bytes)
    }

    fn price(&self, text: &str) -> Result<Price, DecodeError> {
        Price::parse(text.as_bytes(), self.decimals.0).map_err(|_| self.wrong("price", text))
    }

    fn qty(&self, text: &str) -> Result<Qty, DecodeError> {
        Qty::parse(text.as_bytes(), self.decimals.1).map_err(|_| self.wrong("quantity", text))
    }

    // In units of 10^-8; a commission may be a rebate, a balance may be owed.
    fn amount(&self, text: &str) -> Result<i64, DecodeError> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        parse_scaled(digits.as_bytes(), FOREIGN_DECIMALS)
            .map(|units| sign * units)
            .map_err(|_| self.wrong("amount", text))
    }

    fn commission(
        &self,
        amount: Option<&str>,
        asset: Option<&str>,
    ) -> Result<Commission, DecodeError> {
        Ok(Commission {
            amount: self.amount(amount.unwrap_or("0"))?,
            asset: self.name(asset.unwrap_or_default())?,
        })
    }

    fn name(&self, text: &str) -> Result<Name, DecodeError> {
        name(text).ok_or_else(|| self.wrong("name too long", text))
    }

    fn client_order_id(&self, text: &str) -> Result<ClientOrderId, DecodeError> {
        ArrayString::from(text).map_err(|_| self.wrong("client order id too long", text))
    }

    fn side(&self, text: &str) -> Result<Side, DecodeError> {
        match text {
            "BUY" => Ok(Side::Buy),
            "SELL" => Ok(Side::Sell),
            _ => Err(self.wrong("unknown side", text)),
        }
    }

    fn status(&self, text: &str) -> Result<OrderStatus, DecodeError> {
        Ok(match text {
            "NEW" => OrderStatus::New,
            "PENDING_NEW" => OrderStatus::PendingNew,
            "PARTIALLY_FILLED" => OrderStatus::PartiallyFilled,
            "FILLED" => OrderStatus::Filled,
            "CANCELED" => OrderStatus::Canceled,
            "PENDING_CANCEL" => OrderStatus::PendingCancel,
            "REJECTED" => OrderStatus::Rejected,
            "EXPIRED" | "EXPIRED_IN_MATCH" => OrderStatus::Expired,
            _ => return Err(self.wrong("unknown order status", text)),
        })
    }

    fn exec(&self, text: &str, status: OrderStatus) -> Result<ExecType, DecodeError> {
        Ok(match text {
            // An amended order is still the same one, with what the rest of the report says.
            "NEW" | "REPLACED" => ExecType::New,
            "TRADE" => ExecType::Trade,
            "CANCELED" => ExecType::Canceled,
            "PENDING_CANCEL" => ExecType::PendingCancel,
            "REJECTED" => ExecType::Rejected,
            "EXPIRED" => ExecType::Expired,
            // Self-trade prevention: ends the order, or only takes some quantity off it.
            "TRADE_PREVENTION" if status.is_terminal() => ExecType::Expired,
            "TRADE_PREVENTION" => ExecType::New,
            _ => return Err(self.wrong("unknown execution type", text)),
        })
    }
}
