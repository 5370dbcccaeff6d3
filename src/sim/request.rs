//! One request model for REST and the WebSocket API: which calls there are, what they weigh, which parameters they
//! take, who may make them. In: raw parameters. Out: typed parameters, or the venue's refusal.
//!
//! Invariant: a parameter that a call does not know is an error, as it is at the venue.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::clock::UtcNs;

use super::calls::{ANY, Security, Spec};
use super::json::{TimeUnit, parse_decimal};
use super::refusal::{Answer, Refusal};
use super::settings::AccountSettings;
use super::sign::Verifier;

/// `recvWindow` when none is sent, in microseconds.
const RECV_WINDOW_DEFAULT_US: i64 = 5_000_000;

/// Largest `recvWindow`, in microseconds.
const RECV_WINDOW_MAX_US: i64 = 60_000_000;

/// Parameters of one request; no call takes half as many.
const PARAMS_MAX: usize = 64;

/// Parameters that are mandatory wherever they are taken: empty ones are missing ones.
const MANDATORY: &[&str] = &[
    "symbol",
    "side",
    "type",
    "timestamp",
    "signature",
    "interval",
    "cancelReplaceMode",
    "quantity",
    "newQty",
    "price",
];

/// Timestamps from here on are microseconds, not milliseconds.
const TIMESTAMP_US_FROM: i64 = 100_000_000_000_000;

/// The parameters of a request, decoded, and the unit of the times in its answer.
#[derive(Clone, Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
    unit: TimeUnit,
    by_websocket: bool,
}

/// A span of time, both ends in microseconds since 1970 and included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// `startTime`.
    pub start: Option<i64>,
    /// `endTime`; sent in milliseconds, the whole of that millisecond.
    pub end: Option<i64>,
}

impl Span {
    /// Whether a moment lies in it.
    pub fn has(self, utc: UtcNs) -> bool {
        let us = utc.as_micros();
        self.start.is_none_or(|start| us >= start) && self.end.is_none_or(|end| us <= end)
    }

    /// Whether an end of it was sent.
    pub fn is_sent(self) -> bool {
        self.start.is_some() || self.end.is_some()
    }
}

impl Params {
    /// From a raw query string and a raw form body; of a parameter in both, the query's is taken.
    ///
    /// # Errors
    /// A parameter that comes twice in one of them.
    pub fn from_form(query: &str, body: &str) -> Answer<Self> {
        let read = |text: &str| {
            let mut params = Self::default();
            for pair in text.split('&').filter(|pair| !pair.is_empty()) {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                params.add(&decode(name), decode(value))?;
            }
            Ok(params)
        };
        let mut params: Self = read(query)?;
        for (name, value) in read(body)?.pairs {
            if !params.pairs.iter().any(|(known, _)| *known == name) {
                params.add(&name, value)?;
            }
        }
        Ok(params)
    }

    /// The same parameters, to be answered with times in `unit`.
    #[must_use]
    pub fn in_unit(self, unit: TimeUnit) -> Self {
        Self { unit, ..self }
    }

    /// The unit of the times in the answer.
    pub fn unit(&self) -> TimeUnit {
        self.unit
    }

    /// Whether they came over the WebSocket API.
    pub fn came_by_websocket(&self) -> bool {
        self.by_websocket
    }

    /// From the `params` of a WebSocket API request: strings, numbers (as they were written), truth values, arrays.
    ///
    /// # Errors
    /// A value that is none of these.
    pub fn from_json(fields: &BTreeMap<String, Box<RawValue>>) -> Answer<Self> {
        let mut params = Self { by_websocket: true, ..Self::default() };
        for (name, raw) in fields {
            let raw = raw.get();
            let value = match raw.as_bytes().first() {
                Some(b'"') => serde_json::from_str(raw).map_err(|_| malformed(name))?,
                Some(b'n') => continue,
                Some(b'{') => return Err(malformed(name)),
                _ => raw.to_owned(),
            };
            params.add(name, value)?;
        }
        Ok(params)
    }

    fn add(&mut self, name: &str, value: String) -> Answer<()> {
        if self.pairs.len() >= PARAMS_MAX {
            return Err(Refusal::new(-1101, "Too many parameters sent for this endpoint."));
        }
        if self.pairs.iter().any(|(known, _)| known == name) {
            return Err(Refusal::new(-1101, "Duplicate values for a parameter detected."));
        }
        self.pairs.push((name.to_owned(), value));
        Ok(())
    }

    /// What a WebSocket API signature covers: `name=value` of everything but the signature, sorted, joined by `&`.
    pub fn sorted_payload(&self) -> String {
        let mut pairs: Vec<&(String, String)> =
            self.pairs.iter().filter(|(name, _)| name != "signature").collect();
        pairs.sort();
        let pairs: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }

    /// Checks that `spec` knows every parameter.
    ///
    /// # Errors
    /// `-1104` with the counts.
    pub fn check_known(&self, spec: &Spec, ws: bool) -> Answer<()> {
        let of_signature = |name: &str| {
            spec.security != Security::Open
                && matches!(name, "timestamp" | "recvWindow" | "signature")
        };
        let known = |name: &str| {
            spec.params.contains(&name)
                || spec.params == ANY
                || of_signature(name)
                || (ws && matches!(name, "apiKey" | "returnRateLimits" | "timestamp" | "signature"))
        };
        let read = self.pairs.iter().filter(|(name, _)| known(name)).count();
        let sent = self.pairs.len();
        if read == sent {
            return self.check_filled();
        }
        let msg = format!(
            "Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'."
        );
        Err(Refusal::new(-1104, msg))
    }

    /// Checks that no optional parameter was sent without a value; of mandatory ones their readers tell.
    fn check_filled(&self) -> Answer<()> {
        let empty = |(name, value): &&(String, String)| {
            value.is_empty() && !MANDATORY.contains(&name.as_str())
        };
        let Some((name, _)) = self.pairs.iter().find(empty) else { return Ok(()) };
        Err(match name.as_str() {
            "newClientOrderId" => Refusal::new(-1118, "New client order ID was empty."),
            "origClientOrderId" => Refusal::new(-1119, "Original client order ID was empty."),
            _ => Refusal::new(-1105, format!("Parameter '{name}' was empty.")),
        })
    }

    /// A parameter's text; `None` when it was not sent or is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|v| !v.is_empty())
    }

    /// A mandatory parameter's text.
    ///
    /// # Errors
    /// `-1102`.
    pub fn need(&self, name: &str) -> Answer<&str> {
        self.get(name).ok_or_else(|| Refusal::missing(name))
    }

    /// A positive decimal.
    ///
    /// # Errors
    /// `-1100` for text that is none, `-1111` for too many digits, `-1013` for zero.
    pub fn decimal(&self, name: &str) -> Answer<Option<i64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || whole.len() > 20
            || part.len() > 20
            || !digits(whole)
            || !digits(part)
        {
            return Err(Refusal::illegal(name, r"^([0-9]{1,20})(\.[0-9]{1,20})?$"));
        }
        match parse_decimal(text) {
            Some(0) => Err(Refusal::new(-1013, format!("Invalid {name}."))),
            Some(units) => Ok(Some(units)),
            None if part.trim_end_matches('0').len() > 8 => {
                Err(Refusal::new(-1111, format!("Parameter '{name}' has too much precision.")))
            }
            None => Err(Refusal::new(-1108, format!("Parameter '{name}' overflowed."))),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// `-1100` for text that is none.
    pub fn long(&self, name: &str) -> Answer<Option<u64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let digits = text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
        if !digits {
            return Err(Refusal::illegal(name, "^[0-9]{1,20}$"));
        }
        text.parse()
            .map(Some)
            .map_err(|_| Refusal::new(-1108, format!("Parameter '{name}' overflowed.")))
    }

    /// A truth value; false when it was not sent.
    ///
    /// # Errors
    /// `-1102` for anything but `true` and `false`.
    pub fn flag(&self, name: &str, default: bool) -> Answer<bool> {
        match self.get(name) {
            None => Ok(default),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(malformed(name)),
        }
    }

    /// How many items of a list are wanted; more than `max` are `max`.
    ///
    /// # Errors
    /// `-1100` for text that is no number, `-1130` for zero.
    pub fn limit(&self, default: usize, max: usize) -> Answer<usize> {
        let limit = self.long("limit")?.map_or(default, |l| usize::try_from(l).unwrap_or(max));
        if limit == 0 {
            return Err(Refusal::invalid("limit"));
        }
        Ok(limit.min(max))
    }

    /// `startTime` and `endTime`, each in milliseconds or in microseconds.
    ///
    /// # Errors
    /// `-1100` for text that is no number.
    pub fn span(&self) -> Answer<Span> {
        let at = |name: &str, of_ms: i64| -> Answer<Option<i64>> {
            let Some(time) = self.long(name)? else { return Ok(None) };
            let time = i64::try_from(time).unwrap_or(i64::MAX);
            let in_ms = time < TIMESTAMP_US_FROM;
            Ok(Some(if in_ms { time * 1_000 + of_ms } else { time }))
        };
        Ok(Span { start: at("startTime", 0)?, end: at("endTime", 999)? })
    }

    /// A client order id.
    ///
    /// # Errors
    /// `-1100` when it is not one.
    pub fn client_id(&self, name: &str) -> Answer<Option<String>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_:/.".contains(&b);
        if text.len() > 36 || !text.bytes().all(legal) {
            return Err(Refusal::illegal(name, "^[a-zA-Z0-9-_:/.]{1,36}$"));
        }
        Ok(Some(text.to_owned()))
    }
}

fn malformed(name: &str) -> Refusal {
    Refusal::missing(name)
}

/// Percent-decodes; `+` stays, because base64 signatures come with it.
fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What a REST signature covers: the raw query and the raw body, one after the other, without the signature itself.
pub fn rest_payload(query: &str, body: &str) -> String {
    let without = |text: &str| {
        let kept: Vec<&str> =
            text.split('&').filter(|pair| !pair.starts_with("signature=")).collect();
        kept.join("&")
    };
    without(query) + &without(body)
}

/// The accounts' keys.
#[derive(Debug)]
pub struct Keys(Vec<(String, Verifier)>);

impl Keys {
    /// The keys of all accounts, by their index.
    ///
    /// # Errors
    /// When an Ed25519 public key is not one.
    pub fn new(accounts: &[AccountSettings]) -> Result<Self, String> {
        let key = |account: &AccountSettings| {
            Ok((account.api_key.clone(), Verifier::new(&account.secret)?))
        };
        accounts.iter().map(key).collect::<Result<_, String>>().map(Self)
    }

    /// Whose key it is.
    ///
    /// # Errors
    /// `-2014` without a key, `-2015` for one that nobody has.
    pub fn account(&self, api_key: Option<&str>) -> Answer<usize> {
        let api_key = api_key
            .filter(|key| !key.is_empty())
            .ok_or_else(|| Refusal::unauthorized(-2014, "API-key format invalid."))?;
        self.0.iter().position(|(known, _)| known == api_key).ok_or_else(|| {
            Refusal::unauthorized(-2015, "Invalid API-key, IP, or permissions for action.")
        })
    }

    /// Checks that an account's key may log a session on: by the documentation only Ed25519 keys may.
    ///
    /// # Errors
    /// `-4056`.
    pub fn check_logon(&self, account: usize) -> Answer<()> {
        match self.0.get(account).map(|(_, key)| key.kind()) {
            Some("ED25519") | None => Ok(()),
            Some(kind) => Err(Refusal::new(-4056, format!("{kind} API key is not supported."))),
        }
    }

    /// Checks timestamp and, unless the session is logged on, the signature.
    ///
    /// # Errors
    /// `-1102`, `-1021` or `-1022`.
    pub fn check(
        &self,
        account: usize,
        params: &Params,
        payload: Option<&str>,
        utc: UtcNs,
    ) -> Answer<()> {
        let timestamp = params.need("timestamp")?;
        let timestamp = match params.long("timestamp")? {
            Some(t) => i64::try_from(t).map_err(|_| Refusal::missing("timestamp"))?,
            None => return Err(Refusal::illegal("timestamp", timestamp)),
        };
        let signature = match payload {
            Some(_) => Some(params.need("signature")?),
            None => None,
        };
        check_time(timestamp, params, utc)?;
        let verified = match (payload, signature, self.0.get(account)) {
            (None, _, _) => true,
            (Some(payload), Some(signature), Some((_, key))) => {
                key.verify(payload.as_bytes(), signature)
            }
            _ => false,
        };
        if verified {
            return Ok(());
        }
        Err(Refusal::new(-1022, "Signature for this request is not valid."))
    }
}

fn check_time(timestamp: i64, params: &Params, utc: UtcNs) -> Answer<()> {
    let us =
        if timestamp >= TIMESTAMP_US_FROM { timestamp } else { timestamp.saturating_mul(1_000) };
    // The window is a number of milliseconds with up to three decimals: parsed as units of 10^-8, so 1 us = 10^5.
    let window = match params.get("recvWindow") {
        None => RECV_WINDOW_DEFAULT_US,
        Some(text) => {
            let units = parse_decimal(text).ok_or_else(|| malformed("recvWindow"))?;
            if units % 100_000 != 0 {
                let msg = "Parameter 'recvWindow' has too much precision.";
                return Err(Refusal::new(-1111, msg));
            }
            units / 100_000
        }
    };
    if window > RECV_WINDOW_MAX_US {
        return Err(Refusal::new(-1131, "recvWindow must be less than 60000"));
    }
    let now = utc.as_micros();
    if us >= now.saturating_add(1_000_000) {
        let msg = "Timestamp for this request was 1000ms ahead of the server's time.";
        return Err(Refusal::new(-1021, msg));
    }
    if now.saturating_sub(us) > window {
        let msg = "Timestamp for this request is outside of the recvWindow.";
        return Err(Refusal::new(-1021, msg));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn time(timestamp: i64, recv: &str, now_ms: i64, expect: Option<i32>) {
        let query = if recv.is_empty() { String::new() } else { format!("recvWindow={recv}") };
        let params = Params::from_form(&query, "").expect("no duplicates");
        let got = check_time(timestamp, &params, UtcNs::from_millis(now_ms)).err().map(|e| e.code);
        assert_eq!(got, expect, "{timestamp} {recv}");
    }

    #[test]
    fn timestamps() {
        let now = 1_700_000_000_000;
        time(now, "", now, None);
        time(now * 1_000, "", now, None);
        time(now - 5_000, "", now, None);
        time(now - 5_001, "", now, Some(-1021));
        time(now - 6_000, "60000", now, None);
        time(now + 999, "", now, None);
        time(now + 1_000, "60000", now, Some(-1021));
        time(now - 50, "1", now, Some(-1021));
        time(now, "60001", now, Some(-1131));
        time(now - 1, "0.5", now, Some(-1021));
        time(now, "5000.123", now, None);
        time(now, "5000.1234", now, Some(-1111));
        time(now, "x", now, Some(-1102));
    }

    #[test]
    fn payloads_leave_the_signature_out() {
        assert_eq!(rest_payload("a=1&signature=x", "b=2"), "a=1b=2");
        assert_eq!(rest_payload("", "b=%20&signature=x"), "b=%20");
        let params = Params::from_form("b=2&signature=x&a=1", "").expect("no duplicates");
        assert_eq!(params.sorted_payload(), "a=1&b=2");
    }

    #[test]
    fn the_query_wins_over_the_body() {
        let params = Params::from_form("a=1&b=2", "b=3&c=4").expect("no duplicates in either");
        assert_eq!((params.get("b"), params.get("c")), (Some("2"), Some("4")));
        assert_eq!(Params::from_form("", "a=1&a=1").map_err(|e| e.code).err(), Some(-1101));
    }

    #[test]
    fn spans_come_in_both_units() {
        let params = Params::from_form("startTime=5&endTime=1700000000000001", "").expect("two");
        let span = Span { start: Some(5_000), end: Some(1_700_000_000_000_001) };
        assert_eq!(params.span(), Ok(span));
        let params = Params::from_form("endTime=1700000000000", "").expect("one");
        let end = params.span().expect("a number");
        assert!(end.has(UtcNs::from_nanos(1_700_000_000_000_999_999)));
        assert!(!end.has(UtcNs::from_millis(1_700_000_000_001)));
    }

    #[track_caller]
    fn quantity(text: &str, expect: Result<Option<i64>, i32>) {
        let params = Params::from_form(&format!("quantity={text}"), "").expect("no duplicates");
        assert_eq!(params.decimal("quantity").map_err(|e| e.code), expect, "{text}");
    }

    #[test]
    fn decimals() {
        quantity("1.5", Ok(Some(150_000_000)));
        quantity("", Ok(None));
        quantity("0", Err(-1013));
        quantity("-1", Err(-1100));
        quantity("1e-3x", Err(-1100));
        quantity("0.000000001", Err(-1111));
        quantity("99999999999999999999", Err(-1108));
        quantity("%31", Ok(Some(100_000_000)));
    }
}
