//! Frames of the order session -> messages. Comes in: answers and account events, events in any of their three
//! wrappings (`{"subscriptionId","event"}`, `{"stream","data"}`, bare). Goes out: [`SessionMessage`]. Always: no
//! memory of requests is needed, because an id says what was asked.
//!
//! Fields: web-socket-api.md and user-data-stream.md.

use arrayvec::ArrayString;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::trading::limits::FRAME_BYTES_MAX;
use crate::trading::venue::{
    Answer, DecodeError, RequestId, RequestKind, SessionMessage, VenueError,
};

use super::account::{self, Account, AccountEvent, OwnTrade, Report};
use super::event::utc;
use super::market::check_size;
use super::parse::{Text, object, typed};
use super::request::request_id;
use super::symbols::Symbols;

// The outside of a frame; `e` is that of a bare event.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    status: Option<u16>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    e: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Refusal<'a> {
    code: i32,
    #[serde(borrow)]
    msg: Text<'a>,
    // Whatever it is; only rate limits have a time in it.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RateLimited {
    retry_after: Option<u64>,
}

/// Decodes one frame.
pub(super) fn decode(frame: &[u8], symbols: &Symbols) -> Result<SessionMessage, DecodeError> {
    check_size(frame, FRAME_BYTES_MAX)?;
    if let Some(position) = wrapped_position(frame) {
        return Ok(SessionMessage::Balances(position.decode(frame)?));
    }
    let Some(outside) = object::<Frame<'_>>(frame, "session frame")? else {
        return Ok(SessionMessage::Ignored);
    };
    if let Some(status) = outside.status {
        return answer(&outside, status, frame, symbols);
    }
    match outside.event.or(outside.data) {
        Some(event) => self::event(event.get().as_bytes(), symbols),
        None => event(frame, symbols),
    }
}

/// The balances that come with every fill, in the wrapping and with the keys as the venue writes them. Reading it like
/// any other frame would allocate, because its list is looked through before its kind is known.
fn wrapped_position(frame: &[u8]) -> Option<AccountEvent<'_>> {
    let rest = frame.strip_prefix(b"{\"subscriptionId\":")?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let event = rest[digits..].strip_prefix(b",\"event\":")?.strip_suffix(b"}")?;
    event.starts_with(b"{\"e\":\"outboundAccountPosition\"").then_some(())?;
    // What does not read like this is read, or refused, in the usual way.
    serde_json::from_slice(event).ok()
}

fn answer(
    outside: &Frame<'_>,
    status: u16,
    frame: &[u8],
    symbols: &Symbols,
) -> Result<SessionMessage, DecodeError> {
    let Some(id) = outside.id else {
        // The venue could not read what we sent, or has revoked the session (a key that became invalid).
        let refused = refusal(outside, status)?;
        let what = format!("refusal without an id: {} {}", refused.code, refused.message);
        return Err(DecodeError::new(what, frame));
    };
    let Some(id) = ours(id) else { return Ok(SessionMessage::Ignored) };
    let result = if status == 200 {
        let Some(result) = outside.result else {
            return Err(DecodeError::new("answer with neither result nor refusal", frame));
        };
        Ok(body(id.kind, result.get().as_bytes(), symbols)?)
    } else {
        Err(refusal(outside, status)?)
    };
    Ok(SessionMessage::Answer { id, result })
}

fn ours(id: &RawValue) -> Option<RequestId> {
    let text = id.get().strip_prefix('"')?.strip_suffix('"')?;
    request_id(text.as_bytes())
}

fn refusal(outside: &Frame<'_>, status: u16) -> Result<VenueError, DecodeError> {
    // A gateway in between may answer without the venue's words; the status alone says enough.
    let Some(error) = outside.error else {
        return Ok(VenueError { status, code: 0, message: ArrayString::new(), retry_after: None });
    };
    let m: Refusal<'_> = typed(error.get().as_bytes(), "refusal")?;
    let retry_after = m
        .data
        .and_then(|data| serde_json::from_str::<RateLimited>(data.get()).ok())
        .and_then(|limited| limited.retry_after)
        .map(utc);
    let mut message = ArrayString::new();
    for c in m.msg.chars() {
        if message.try_push(c).is_err() {
            break;
        }
    }
    Ok(VenueError { status, code: m.code, message, retry_after })
}

fn body(kind: RequestKind, bytes: &[u8], symbols: &Symbols) -> Result<Answer, DecodeError> {
    Ok(match kind {
        RequestKind::Logon => Answer::LoggedOn,
        RequestKind::Subscribe => Answer::Subscribed,
        RequestKind::Place => Answer::Placed(account::order(bytes, symbols)?),
        RequestKind::Cancel => Answer::Canceled(account::order(bytes, symbols)?),
        RequestKind::CancelAll => Answer::CanceledAll(account::canceled(bytes, symbols)?),
        RequestKind::OpenOrders => Answer::OpenOrders(account::orders(bytes, symbols)?),
        RequestKind::OrderStatus => Answer::Order(account::order(bytes, symbols)?),
        RequestKind::Trades => {
            let trades: Vec<OwnTrade<'_>> = typed(bytes, "own trades")?;
            let decode = |t: &OwnTrade<'_>| t.decode(symbols, bytes);
            Answer::Trades(trades.iter().map(decode).collect::<Result<_, _>>()?)
        }
        RequestKind::Account => {
            Answer::Account(typed::<Account<'_>>(bytes, "account")?.decode(bytes)?)
        }
    })
}

fn event(bytes: &[u8], symbols: &Symbols) -> Result<SessionMessage, DecodeError> {
    let Some(head) = object::<Event<'_>>(bytes, "event")? else {
        return Ok(SessionMessage::Ignored);
    };
    Ok(match head.e.as_deref() {
        Some("executionReport") => {
            let report: Report<'_> = typed(bytes, "executionReport")?;
            SessionMessage::Report(report.decode(symbols, bytes)?)
        }
        Some("outboundAccountPosition") => {
            let position: AccountEvent<'_> = typed(bytes, "outboundAccountPosition")?;
            SessionMessage::Balances(position.decode(bytes)?)
        }
        Some("eventStreamTerminated") => SessionMessage::StreamEnded,
        Some("serverShutdown") => SessionMessage::ServerShutdown,
        // Among them balanceUpdate: it tells a difference, and the new balances follow in a message of their own.
        _ => SessionMessage::Ignored,
    })
}
