//! One WebSocket API connection: who is logged on, which account streams it listens to, and the envelope of answers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::UtcNs;

use super::calls::{Call, Security, Spec, ws_spec};
use super::json::Json;
use super::limits::RateLimits;
use super::micros::in_micros;
use super::refusal::{Answer, Refusal};
use super::request::{Keys, Params};
use super::streams::is_request_id;
use super::wire;

/// Account streams per connection at once.
const SUBSCRIPTIONS_MAX: usize = 1_000;

/// Account streams per connection in its life.
const SUBSCRIPTION_IDS_MAX: u64 = 65_535;

/// Longest request id that is echoed, in bytes of JSON.
const ID_BYTES_MAX: usize = 64;

/// An account stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its number on this connection, from 0.
    pub id: u64,
    /// Whose events.
    pub account: usize,
    /// Whether it came with the logon and goes with it.
    by_logon: bool,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    /// Whether answers carry rate limits unless a request says otherwise.
    pub limits_by_default: bool,
    /// Whether moments are told in microseconds.
    pub micros: bool,
    connected: UtcNs,
    logged_on: Option<(usize, String, UtcNs)>,
    subscriptions: Vec<Subscription>,
    next_subscription: u64,
}

/// A decoded request.
#[derive(Debug)]
pub struct SessionRequest {
    /// The id as it came, as JSON.
    pub id: String,
    /// Which call, or why none.
    pub call: Answer<&'static Spec>,
    /// Its parameters.
    pub params: Params,
    /// Whether the answer carries rate limits.
    pub limits: Option<bool>,
}

/// The id alone: it is echoed even where the rest of a request makes no sense.
#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawRequest {
    method: Option<String>,
    params: Option<BTreeMap<String, Box<RawValue>>>,
}

impl SessionRequest {
    /// Decodes a text message.
    pub fn decode(text: &str) -> Self {
        let broken = |id: &str, refusal| Self {
            id: id.to_owned(),
            call: Err(refusal),
            params: Params::default(),
            limits: None,
        };
        let invalid = || Refusal::new(-1135, "Invalid JSON Request");
        let Ok(identified) = serde_json::from_str::<Identified<'_>>(text) else {
            return broken("null", invalid());
        };
        let id = identified.id.map_or("null", RawValue::get);
        // Echoed as it came, so it must be something that every client can read back.
        if id.len() > ID_BYTES_MAX || !is_request_id(id) {
            return broken("null", Refusal::illegal("id", "^[a-zA-Z0-9-_]{1,36}$"));
        }
        let Ok(raw) = serde_json::from_str::<RawRequest>(text) else {
            return broken(id, invalid());
        };
        let params = raw.params.unwrap_or_default();
        let limits = params.get("returnRateLimits").and_then(|v| match v.get() {
            "true" | "\"true\"" => Some(true),
            "false" | "\"false\"" => Some(false),
            _ => None,
        });
        let call = match raw.method.as_deref() {
            None => Err(Refusal::missing("method")),
            Some(method) => ws_spec(method)
                .ok_or_else(|| Refusal::new(-1020, "This operation is not supported.")),
        };
        match Params::from_json(&params) {
            Ok(params) => Self { id: id.to_owned(), call, params, limits },
            Err(refusal) => {
                Self { id: id.to_owned(), call: Err(refusal), params: Params::default(), limits }
            }
        }
    }
}

/// What an answer says of the limits.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The limits.
    pub limits: RateLimits,
    /// Weight used in this minute.
    pub weight: u32,
    /// Unfilled orders of the account in ten seconds and in the day; for answers to orders.
    pub orders: Option<(u32, u32)>,
}

/// An event of an account stream in its envelope.
pub fn event(subscription: u64, event: &str) -> String {
    let mut out = String::with_capacity(event.len() + 40);
    out.push_str("{\"subscriptionId\":");
    out.push_str(itoa::Buffer::new().format(subscription));
    out.push_str(",\"event\":");
    out.push_str(event);
    out.push('}');
    out
}

impl Session {
    /// A connection that has just been made.
    ///
    /// # Errors
    /// `-1194` for a `timeUnit` that is none, `-1155` for who wants binary answers.
    pub fn new(query: &str, utc: UtcNs) -> Answer<Self> {
        let micros = match query.split('&').find_map(|pair| pair.strip_prefix("timeUnit=")) {
            None | Some("MILLISECOND" | "millisecond") => false,
            Some("MICROSECOND" | "microsecond") => true,
            Some(_) => {
                let msg =
                    "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.";
                return Err(Refusal::new(-1194, msg));
            }
        };
        if query.split('&').any(|pair| pair == "responseFormat=sbe") {
            return Err(Refusal::new(-1155, "SBE is not enabled."));
        }
        Ok(Self {
            limits_by_default: !query.split('&').any(|pair| pair == "returnRateLimits=false"),
            micros,
            connected: utc,
            logged_on: None,
            subscriptions: Vec::new(),
            next_subscription: 0,
        })
    }

    /// JSON with its moments in this connection's unit.
    pub fn in_its_unit<'a>(&self, json: &'a str) -> Cow<'a, str> {
        if self.micros { in_micros(json).into() } else { json.into() }
    }

    /// An answer in its envelope.
    pub fn envelope(
        &self,
        id: &str,
        result: &Answer<String>,
        told: Option<Told>,
        utc: UtcNs,
    ) -> String {
        Json::object(|j| {
            j.f_raw("id", id);
            match result {
                Ok(result) => j.f_int("status", 200).f_raw("result", &self.in_its_unit(result)),
                Err(refusal) => {
                    let error = wire::api_error(refusal, utc);
                    j.f_int("status", refusal.status).f_raw("error", &self.in_its_unit(&error))
                }
            };
            if let Some(told) = told {
                j.key("rateLimits").arr(|j| {
                    if told.orders.is_some() {
                        wire::order_limits(j, &told.limits, told.orders);
                    }
                    wire::weight_limit(j, &told.limits, Some(told.weight));
                });
            }
        })
    }

    /// The account streams of this connection.
    pub fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    /// Who makes the request; `None` for calls that anybody may make.
    ///
    /// # Errors
    /// The venue's refusal.
    pub fn authenticate(
        &self,
        keys: &Keys,
        spec: &Spec,
        params: &Params,
        utc: UtcNs,
    ) -> Answer<Option<usize>> {
        match spec.security {
            Security::Open => return Ok(None),
            Security::Session => {
                let msg = "WebSocket session not logged on.";
                let logged_on = self.logged_on.as_ref();
                return Ok(Some(logged_on.ok_or_else(|| Refusal::unauthorized(-2014, msg))?.0));
            }
            Security::Signed => {
                if let (Some((account, _, _)), None) = (&self.logged_on, params.get("apiKey")) {
                    keys.check(*account, params, None, utc)?;
                    return Ok(Some(*account));
                }
            }
            Security::SignedHere => {}
        }
        let api_key = params.get("apiKey").ok_or_else(|| Refusal::missing("apiKey"))?;
        let account = keys.account(Some(api_key))?;
        keys.check(account, params, Some(&params.sorted_payload()), utc)?;
        Ok(Some(account))
    }

    /// Does a call that is about this connection; the answer and the ids of account streams that ended.
    ///
    /// # Errors
    /// The venue's refusal.
    pub fn execute(
        &mut self,
        keys: &Keys,
        call: Call,
        account: Option<usize>,
        params: &Params,
        utc: UtcNs,
    ) -> Answer<(String, Vec<u64>)> {
        match (call, account) {
            (Call::Logon, Some(account)) => {
                keys.check_logon(account)?;
                let key = params.get("apiKey").unwrap_or_default().to_owned();
                self.logged_on = Some((account, key, utc));
                Ok((self.status(utc), Vec::new()))
            }
            (Call::Logout, _) => {
                self.logged_on = None;
                let ended = self.end(|s| s.by_logon);
                Ok((self.status(utc), ended))
            }
            (Call::SessionStatus, _) => Ok((self.status(utc), Vec::new())),
            (Call::Subscribe, Some(account)) => self.subscribe(account, true),
            (Call::SubscribeSignature, Some(account)) => self.subscribe(account, false),
            (Call::Unsubscribe, _) => {
                let id = params.long("subscriptionId")?;
                let ended = self.end(|s| id.is_none_or(|id| s.id == id));
                if ended.is_empty() {
                    let msg = "User Data Stream subscription not active.";
                    return Err(Refusal::new(-2036, msg));
                }
                Ok(("{}".to_owned(), ended))
            }
            (Call::Subscriptions, _) => Ok((
                Json::array(|j| {
                    for subscription in &self.subscriptions {
                        j.obj(|j| {
                            j.f_int("subscriptionId", subscription.id);
                        });
                    }
                }),
                Vec::new(),
            )),
            _ => Err(Refusal::new(-1020, "This operation is not supported.")),
        }
    }

    fn subscribe(&mut self, account: usize, by_logon: bool) -> Answer<(String, Vec<u64>)> {
        if self.subscriptions.iter().any(|s| s.account == account) {
            return Err(Refusal::new(-2035, "User Data Stream subscription already active."));
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            let msg = format!(
                "Too many subscriptions. Connection may create up to '{SUBSCRIPTIONS_MAX}' subscriptions at a time."
            );
            return Err(Refusal::new(-1191, msg));
        }
        if self.next_subscription >= SUBSCRIPTION_IDS_MAX {
            let msg = "Maximum subscription ID reached for this connection.";
            return Err(Refusal::new(-2042, msg));
        }
        let id = self.next_subscription;
        self.next_subscription += 1;
        self.subscriptions.push(Subscription { id, account, by_logon });
        let answer = Json::object(|j| {
            j.f_int("subscriptionId", id);
        });
        Ok((answer, Vec::new()))
    }

    fn end(&mut self, which: impl Fn(&Subscription) -> bool) -> Vec<u64> {
        let ended = self.subscriptions.iter().filter(|s| which(s)).map(|s| s.id).collect();
        self.subscriptions.retain(|s| !which(s));
        ended
    }

    fn status(&self, utc: UtcNs) -> String {
        Json::object(|j| {
            match &self.logged_on {
                Some((_, key, since)) => {
                    j.f_text("apiKey", key).f_int("authorizedSince", since.as_millis());
                }
                None => {
                    j.f_raw("apiKey", "null").f_raw("authorizedSince", "null");
                }
            }
            j.f_int("connectedSince", self.connected.as_millis())
                .f_flag("returnRateLimits", self.limits_by_default)
                .f_int("serverTime", utc.as_millis())
                .f_flag("userDataStream", !self.subscriptions.is_empty());
        })
    }
}
