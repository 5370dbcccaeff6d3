//! Faults on demand. In: what `/sim/faults` asks for. Out: whether a fault hits this frame, request or connection now.
//! Every fault counts what it did, so that a test can prove that it happened. Seeded.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;

use crate::clock::MonoNs;

use super::json::Json;

/// Faults that are over and still shown.
const OVER_MAX: usize = 100;

/// Longest latency and longest jitter, in milliseconds.
const LATENCY_MS_MAX: u64 = 600_000;

/// Faults at once.
const ACTIVE_MAX: usize = 64;

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            fn label(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

labels! {
    /// What goes wrong.
    FaultKind {
        /// Open connections end at once; for `rest`, the next requests get no answer.
        Disconnect = "disconnect",
        /// Open connections fall silent, TCP stays.
        HalfOpen = "half_open",
        /// New connections (and `rest` requests) are refused.
        RefuseConnect = "refuse_connect",
        /// Everything comes later.
        Slow = "slow",
        /// A frame is not sent.
        Drop = "drop",
        /// A frame is sent twice.
        Duplicate = "duplicate",
        /// A depth diff is not sent.
        Gap = "gap",
        /// An order request takes effect and is not answered.
        LostAck = "lost_ack",
        /// An order is refused.
        Reject = "reject",
    }
}

labels! {
    /// Where it goes wrong.
    Target {
        /// Market streams.
        Stream = "stream",
        /// REST.
        Rest = "rest",
        /// Answers of the WebSocket API.
        WsApi = "ws_api",
        /// Events of the account stream.
        UserData = "user_data",
    }
}

/// A fault as `/sim/faults` asks for it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRequest {
    kind: String,
    target: Option<String>,
    symbol: Option<String>,
    count: Option<u64>,
    probability: Option<f64>,
    duration_ms: Option<u64>,
    latency_ms: Option<u64>,
    jitter_ms: Option<u64>,
}

/// A fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// Where; everywhere when `None`.
    pub target: Option<Target>,
    symbol: Option<String>,
    left: Option<u64>,
    probability: f64,
    until: Option<MonoNs>,
    latency: Duration,
    jitter: Duration,
    id: u64,
    hits: u64,
}

/// All faults.
#[derive(Debug)]
pub struct Faults {
    active: Vec<Fault>,
    over: VecDeque<Fault>,
    rng: fastrand::Rng,
    next_id: u64,
}

impl Faults {
    /// No faults yet.
    pub fn new(seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed ^ 0x0066_6175_6c74);
        Self { active: Vec::new(), over: VecDeque::new(), rng, next_id: 1 }
    }

    /// Takes a fault in; a copy of it.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn add(&mut self, body: &[u8], now: MonoNs) -> Result<Fault, String> {
        let request: FaultRequest = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let kind = FaultKind::parse(&request.kind).ok_or("kind: not one that this venue has")?;
        let target = match &request.target {
            Some(text) => {
                Some(Target::parse(text).ok_or("target: stream, rest, ws_api or user_data")?)
            }
            None => None,
        };
        let probability = request.probability.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&probability) {
            return Err("probability: expected a number from 0 to 1".to_owned());
        }
        let times = [request.latency_ms, request.jitter_ms];
        if times.into_iter().flatten().any(|ms| ms > LATENCY_MS_MAX) {
            return Err(format!("latency_ms, jitter_ms: at most {LATENCY_MS_MAX}"));
        }
        if self.active.len() >= ACTIVE_MAX {
            return Err(format!("more than {ACTIVE_MAX} faults at once"));
        }
        // A fault that says nothing about its length happens once; connections fall all at once.
        let endless = request.probability.is_some()
            || request.duration_ms.is_some()
            || matches!(kind, FaultKind::HalfOpen | FaultKind::Slow)
            || (kind == FaultKind::Disconnect && target != Some(Target::Rest));
        let left = request.count.or(if endless { None } else { Some(1) });
        let until = request.duration_ms.map(|ms| now.after(Duration::from_millis(ms)));
        let fault = Fault {
            kind,
            target,
            symbol: request.symbol,
            left,
            probability,
            until,
            latency: Duration::from_millis(request.latency_ms.unwrap_or(0)),
            jitter: Duration::from_millis(request.jitter_ms.unwrap_or(0)),
            id: self.next_id,
            hits: 0,
        };
        self.next_id += 1;
        self.active.push(fault.clone());
        Ok(fault)
    }

    /// Ends all faults.
    pub fn clear(&mut self) {
        for fault in std::mem::take(&mut self.active) {
            self.retire(fault);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    fn retire(&mut self, fault: Fault) {
        if self.over.len() >= OVER_MAX {
            self.over.pop_front();
        }
        self.over.push_back(fault);
    }

    /// Retires what is over; whether a half-open fault was among it.
    pub fn expire(&mut self, now: MonoNs) -> bool {
        let mut half_open = false;
        let mut at = 0;
        while at < self.active.len() {
            let fault = &self.active[at];
            if fault.until.is_some_and(|until| until <= now) || fault.left == Some(0) {
                let fault = self.active.remove(at);
                half_open |= fault.kind == FaultKind::HalfOpen;
                self.retire(fault);
            } else {
                at += 1;
            }
        }
        half_open
    }

    /// When the next fault ends by itself.
    pub fn next_end(&self) -> Option<MonoNs> {
        self.active.iter().filter_map(|fault| fault.until).min()
    }

    /// Whether a fault of `kind` hits now; counts it.
    pub fn hit(&mut self, kind: FaultKind, target: Target, symbol: Option<&str>) -> bool {
        for fault in &mut self.active {
            let here = fault.kind == kind
                && fault.target.is_none_or(|t| t == target)
                && fault.left != Some(0)
                && (symbol.is_none()
                    || fault.symbol.is_none()
                    || fault.symbol.as_deref() == symbol);
            if here && (fault.probability >= 1.0 || self.rng.f64() < fault.probability) {
                fault.hits += 1;
                fault.left = fault.left.map(|left| left - 1);
                return true;
            }
        }
        false
    }

    /// Counts `hits` of a fault that struck when it came, and ends it if it does not last.
    pub fn struck(&mut self, id: u64, hits: u64, over: bool) {
        if let Some(fault) = self.active.iter_mut().find(|fault| fault.id == id) {
            fault.hits += hits;
            if over {
                fault.left = Some(0);
            }
        }
    }

    /// How many connections a fault may strike, and its number.
    pub fn reach(fault: &Fault) -> (usize, u64) {
        (fault.left.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX)), fault.id)
    }

    /// How much later something comes.
    pub fn delay(&mut self, target: Target) -> Duration {
        let mut delay = Duration::ZERO;
        for fault in &mut self.active {
            if fault.kind != FaultKind::Slow
                || fault.target.is_some_and(|t| t != target)
                || fault.left == Some(0)
            {
                continue;
            }
            fault.hits += 1;
            fault.left = fault.left.map(|left| left - 1);
            delay += fault.latency + fault.jitter.mul_f64(self.rng.f64());
        }
        delay
    }

    /// All faults as JSON: those that last, and those that are over.
    pub fn state(&self, j: &mut Json) {
        j.obj(|j| {
            for (name, faults) in [
                ("active", self.active.iter().collect::<Vec<_>>()),
                ("over", self.over.iter().collect()),
            ] {
                j.key(name).arr(|j| {
                    for fault in faults {
                        j.obj(|j| {
                            j.f_int("id", fault.id)
                                .f_text("kind", fault.kind.label())
                                .f_text("target", fault.target.map_or("all", Target::label))
                                .f_int("hits", fault.hits);
                            if let Some(left) = fault.left {
                                j.f_int("left", left);
                            }
                        });
                    }
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(body: &str) -> Faults {
        let mut faults = Faults::new(1);
        faults.add(body.as_bytes(), MonoNs::ZERO).expect("a fault");
        faults
    }

    #[test]
    fn counts_run_out() {
        let mut faults = faults(r#"{"kind":"drop","target":"stream","count":2}"#);
        let mut hit = || faults.hit(FaultKind::Drop, Target::Stream, None);
        assert_eq!([hit(), hit(), hit()], [true, true, false]);
        assert!(!faults.expire(MonoNs::ZERO) && faults.is_empty());
    }

    #[test]
    fn targets_and_symbols_are_kept_apart() {
        let mut faults = faults(r#"{"kind":"gap","symbol":"ETHUSDT"}"#);
        assert!(!faults.hit(FaultKind::Gap, Target::Stream, Some("BTCUSDT")));
        assert!(!faults.hit(FaultKind::Drop, Target::Stream, Some("ETHUSDT")));
        assert!(faults.hit(FaultKind::Gap, Target::Stream, Some("ETHUSDT")));
    }

    #[test]
    fn durations_end() {
        let mut faults = faults(r#"{"kind":"half_open","duration_ms":10}"#);
        assert!(!faults.expire(MonoNs::from_millis(9)));
        assert!(faults.expire(MonoNs::from_millis(10)));
    }

    #[test]
    fn nonsense_is_refused() {
        for body in ["", "{}", r#"{"kind":"x"}"#, r#"{"kind":"drop","probability":2}"#] {
            assert!(Faults::new(1).add(body.as_bytes(), MonoNs::ZERO).is_err(), "{body}");
        }
    }
}
