//! Faults on demand. In: what `/sim/faults` asks for. Out: whether a fault hits this frame, request or connection now.
//! Every fault counts what it did, when last and to whom, so that a test can prove that it happened. Seeded.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::{MonoNs, UtcNs};
use crate::net::server::ConnId;

use super::fault_request::FaultRequest;
use super::json::Json;

/// Faults that are over and still shown.
const OVER_MAX: usize = 100;

/// Faults at once.
const ACTIVE_MAX: usize = 64;

/// How long a fill is late and how long a shutdown is announced, unless the request says it.
const LATENCY_MS_DEFAULT: u64 = 1_000;

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            const LABELS: &'static [&'static str] = &[$($text,)*];

            /// Its name in requests and in `/sim/state`.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            pub(super) fn parse(key: &str, text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(format!("{key} {text}: expected one of {}", Self::LABELS.join(", "))),
                }
            }
        }
    };
}

labels! {
    /// What goes wrong.
    FaultKind {
        /// Open connections end at once; for `rest`, the next requests get no answer.
        Disconnect = "disconnect",
        /// Open connections fall silent, TCP stays; for `rest`, those of the next requests.
        HalfOpen = "half_open",
        /// New connections (and `rest` requests) are cut before they are answered.
        RefuseConnect = "refuse_connect",
        /// Everything comes later.
        Slow = "slow",
        /// A frame or an answer is not sent.
        Drop = "drop",
        /// A frame is sent twice.
        Duplicate = "duplicate",
        /// A frame is sent after the next one of its connection.
        Reorder = "reorder",
        /// A depth diff, or an account event, is not sent.
        Gap = "gap",
        /// A snapshot of the book is as old as the fault.
        StaleSnapshot = "stale_snapshot",
        /// A frame or an answer is broken.
        Corrupt = "corrupt",
        /// A connection gets one byte at a time.
        Slice = "slice",
        /// A request is answered with a status of failure.
        Status = "status",
        /// An order request takes effect and is not answered.
        LostAck = "lost_ack",
        /// The event of a fill comes later than those after it.
        LateFill = "late_fill",
        /// The event of a fill comes twice.
        DuplicateFill = "duplicate_fill",
        /// An order is refused.
        Reject = "reject",
        /// The venue's clock is wrong.
        ClockSkew = "clock_skew_ms",
        /// The venue announces that it goes, and goes.
        ServerShutdown = "server_shutdown",
        /// A symbol does not trade.
        SymbolStatus = "symbol_status",
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
        /// Events of the account stream, and the connections that listen to it.
        UserData = "user_data",
    }
}

labels! {
    /// How a frame or an answer is broken.
    Corruption {
        /// Its JSON ends in the middle.
        Json = "json",
        /// Its text is not UTF-8.
        Utf8 = "utf8",
        /// It claims a length that nobody can want.
        Huge = "huge",
        /// It ends before its length, and so does the connection.
        Truncated = "truncated",
    }
}

labels! {
    /// When a status of failure strikes.
    When {
        /// The request is not done.
        Before = "before",
        /// The request has been done; only requests that change something are hit.
        After = "after",
    }
}

labels! {
    /// Why a symbol does not trade.
    Halt {
        /// The venue closed the symbol.
        Break = "BREAK",
        /// The venue stopped trading for now.
        Halt = "HALT",
    }
}

impl FaultKind {
    /// Where it can happen.
    pub(super) fn targets(self) -> &'static [Target] {
        use Target::{Rest, Stream, UserData, WsApi};
        match self {
            Self::Disconnect
            | Self::HalfOpen
            | Self::Slow
            | Self::Drop
            | Self::Corrupt
            | Self::Slice => &[Stream, Rest, WsApi, UserData],
            Self::RefuseConnect | Self::ClockSkew => &[Stream, Rest, WsApi],
            Self::Duplicate | Self::Reorder | Self::ServerShutdown => &[Stream, WsApi, UserData],
            Self::Gap => &[Stream, UserData],
            Self::StaleSnapshot | Self::Status | Self::LostAck | Self::Reject => &[Rest, WsApi],
            Self::LateFill | Self::DuplicateFill => &[UserData],
            Self::SymbolStatus => &[],
        }
    }

    /// The keys of a request that only some kinds have.
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Slow => &["latency_ms", "jitter_ms"],
            Self::LateFill | Self::ServerShutdown => &["latency_ms"],
            Self::Corrupt => &["how"],
            Self::Status => &["status", "when"],
            Self::Reject => &["code", "msg"],
            Self::ClockSkew => &["skew_ms"],
            Self::SymbolStatus => &["status"],
            _ => &[],
        }
    }

    /// Whether it is about whole connections, which no symbol has.
    pub(super) fn of_connections(self) -> bool {
        matches!(
            self,
            Self::Disconnect
                | Self::HalfOpen
                | Self::RefuseConnect
                | Self::Slice
                | Self::ServerShutdown
                | Self::ClockSkew
        )
    }

    /// Whether it lasts until it is ended, unless the request says how long.
    fn lasts(self, target: Option<Target>) -> bool {
        match self {
            Self::HalfOpen | Self::Slow | Self::Slice | Self::ClockSkew | Self::SymbolStatus => {
                true
            }
            Self::Disconnect | Self::ServerShutdown => target != Some(Target::Rest),
            _ => false,
        }
    }
}

/// What only some kinds have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// How something is broken; by chance when `None`.
    How(Option<Corruption>),
    /// The status, and when it strikes.
    Status(u16, When),
    /// Why a symbol does not trade.
    Halt(Halt),
    /// The code and the words of a refusal.
    Refusal(i32, String),
    /// How much the clock is ahead, in milliseconds.
    Skew(i64),
}

/// A fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// Where; everywhere when `None`.
    pub target: Option<Target>,
    /// The index of the symbol; all when `None`.
    pub symbol: Option<usize>,
    /// What only its kind has.
    pub detail: Detail,
    /// How much later things come.
    pub latency: Duration,
    /// Its number.
    pub id: u64,
    left: Option<u64>,
    probability: f64,
    until: Option<MonoNs>,
    jitter: Duration,
    hits: u64,
    last: Option<(UtcNs, String)>,
}

impl Fault {
    fn reaches(&self, kind: FaultKind, target: Target, symbol: Option<usize>) -> bool {
        self.kind == kind
            && self.target.is_none_or(|t| t == target)
            && self.left != Some(0)
            && (self.symbol.is_none() || self.symbol == symbol)
    }

    fn count(&mut self, hits: u64, utc: UtcNs, whom: String) {
        self.hits += hits;
        self.left = self.left.map(|left| left.saturating_sub(hits));
        self.last = Some((utc, whom));
    }

    /// Whether it has an end, and strikes connections that are made until then.
    pub fn lasts(&self) -> bool {
        self.until.is_some()
    }

    /// Whether it is over: its time is, or it has done what it was to do, and nothing has to be undone.
    fn is_over(&self, now: MonoNs) -> bool {
        let holds = matches!(self.kind, FaultKind::HalfOpen | FaultKind::Slice);
        self.until.is_some_and(|until| until <= now) || (self.left == Some(0) && !holds)
    }

    fn state(&self, j: &mut Json, symbols: &[String], now: MonoNs) {
        j.f_int("id", self.id)
            .f_text("kind", self.kind.label())
            .f_text("target", self.target.map_or("all", Target::label));
        if let Some(symbol) = self.symbol.and_then(|at| symbols.get(at)) {
            j.f_text("symbol", symbol);
        }
        match &self.detail {
            Detail::None => {}
            Detail::How(how) => {
                j.f_text("how", how.map_or("any", Corruption::label));
            }
            Detail::Status(status, when) => {
                j.f_int("status", *status).f_text("when", when.label());
            }
            Detail::Halt(halt) => {
                j.f_text("status", halt.label());
            }
            Detail::Refusal(code, msg) => {
                j.f_int("code", *code).f_text("msg", msg);
            }
            Detail::Skew(ms) => {
                j.f_int("skew_ms", *ms);
            }
        }
        j.f_int("hits", self.hits);
        if let Some(left) = self.left {
            j.f_int("left", left);
        }
        if self.probability < 1.0 {
            j.f_raw("probability", &self.probability.to_string());
        }
        if let Some(until) = self.until {
            let left = u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX);
            j.f_int("ends_in_ms", left);
        }
        if let Some((utc, whom)) = &self.last {
            j.f_int("last_time", utc.as_millis()).f_text("last_whom", whom);
        }
    }
}

/// All faults.
#[derive(Debug)]
pub struct Faults {
    symbols: Vec<String>,
    active: Vec<Fault>,
    over: VecDeque<Fault>,
    rng: fastrand::Rng,
    next_id: u64,
    now: MonoNs,
    utc: UtcNs,
}

impl Faults {
    /// No faults yet, at a venue with these symbols.
    pub fn new(seed: u64, symbols: Vec<String>) -> Self {
        let rng = fastrand::Rng::with_seed(seed ^ 0x0066_6175_6c74);
        Self {
            symbols,
            active: Vec::new(),
            over: VecDeque::new(),
            rng,
            next_id: 1,
            now: MonoNs::ZERO,
            utc: UtcNs::default(),
        }
    }

    /// Takes a fault in; a copy of it.
    ///
    /// # Errors
    /// What is wrong with the request, and what there is instead.
    pub fn add(&mut self, body: &[u8], now: MonoNs) -> Result<Fault, String> {
        let request: FaultRequest = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let kind = FaultKind::parse("kind", &request.kind)?;
        let target = request.target(kind)?;
        let symbol = request.symbol(kind, &self.symbols)?;
        request.check_keys(kind)?;
        let probability = request.probability.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&probability) {
            return Err("probability: expected a number from 0 to 1".to_owned());
        }
        if self.active.len() >= ACTIVE_MAX {
            return Err(format!("more than {ACTIVE_MAX} faults at once"));
        }
        // A fault that says nothing about its length happens once; connections fall all at once.
        let endless =
            request.probability.is_some() || request.duration_ms.is_some() || kind.lasts(target);
        let late = matches!(kind, FaultKind::LateFill | FaultKind::ServerShutdown);
        let latency = request.latency_ms.unwrap_or(if late { LATENCY_MS_DEFAULT } else { 0 });
        let fault = Fault {
            kind,
            target,
            symbol,
            detail: request.detail(kind)?,
            left: request.count.or(if endless { None } else { Some(1) }),
            probability,
            until: request.duration_ms.map(|ms| now.after(Duration::from_millis(ms))),
            latency: Duration::from_millis(latency),
            jitter: Duration::from_millis(request.jitter_ms.unwrap_or(0)),
            id: self.next_id,
            hits: 0,
            last: None,
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

    /// Whether one of `kind` is active.
    pub fn any(&self, kind: FaultKind) -> bool {
        self.active.iter().any(|fault| fault.kind == kind)
    }

    /// Whether a fault is not over yet.
    pub fn is_active(&self, id: u64) -> bool {
        self.active.iter().any(|fault| fault.id == id)
    }

    fn retire(&mut self, fault: Fault) {
        if self.over.len() >= OVER_MAX {
            self.over.pop_front();
        }
        self.over.push_back(fault);
    }

    /// Retires what is over; whether anything was. What happens from now on happens at `utc`.
    pub fn expire(&mut self, now: MonoNs, utc: UtcNs) -> bool {
        (self.now, self.utc) = (now, utc);
        let over: Vec<Fault> = self.active.extract_if(.., |fault| fault.is_over(now)).collect();
        let any = !over.is_empty();
        over.into_iter().for_each(|fault| self.retire(fault));
        any
    }

    /// When the next fault ends by itself.
    pub fn next_end(&self) -> Option<MonoNs> {
        self.active.iter().filter_map(|fault| fault.until).min()
    }

    /// Whether a fault of `kind` hits `conn` now; counts it.
    pub fn hit(
        &mut self,
        kind: FaultKind,
        target: Target,
        symbol: Option<usize>,
        conn: ConnId,
    ) -> bool {
        self.strike(kind, target, symbol, conn, |_| true).is_some()
    }

    /// The fault of `kind` that `applies` and hits `conn` now; counts it.
    pub fn strike(
        &mut self,
        kind: FaultKind,
        target: Target,
        symbol: Option<usize>,
        conn: ConnId,
        applies: impl Fn(&Fault) -> bool,
    ) -> Option<Fault> {
        for fault in &mut self.active {
            if fault.reaches(kind, target, symbol)
                && applies(fault)
                && (fault.probability >= 1.0 || self.rng.f64() < fault.probability)
            {
                fault.count(1, self.utc, format!("{} {}", target.label(), conn.0));
                return Some(fault.clone());
            }
        }
        None
    }

    /// How something is broken when the fault leaves it to chance.
    pub fn corruption(&mut self, fault: &Fault) -> Corruption {
        const ALL: [Corruption; 4] =
            [Corruption::Json, Corruption::Utf8, Corruption::Huge, Corruption::Truncated];
        match fault.detail {
            Detail::How(Some(how)) => how,
            _ => ALL[self.rng.usize(..ALL.len())],
        }
    }

    /// Which of the open connections a fault strikes as it comes; counts them. It is over then if `over`.
    pub fn strike_open(&mut self, id: u64, open: Vec<ConnId>, over: bool) -> Vec<ConnId> {
        let Some(fault) = self.active.iter_mut().find(|fault| fault.id == id) else {
            return Vec::new();
        };
        let reach = fault.left.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let mut struck = open;
        struck.retain(|_| fault.probability >= 1.0 || self.rng.f64() < fault.probability);
        struck.truncate(reach);
        if let Some(last) = struck.last() {
            let whom = fault.target.map_or("all", Target::label);
            fault.count(struck.len() as u64, self.utc, format!("{whom} {}", last.0));
        }
        if over {
            fault.left = Some(0);
        }
        struck
    }

    /// How much later something comes to `conn`.
    pub fn delay(&mut self, target: Target, symbol: Option<usize>, conn: ConnId) -> Duration {
        let mut delay = Duration::ZERO;
        for fault in &mut self.active {
            if fault.reaches(FaultKind::Slow, target, symbol)
                && (fault.probability >= 1.0 || self.rng.f64() < fault.probability)
            {
                fault.count(1, self.utc, format!("{} {}", target.label(), conn.0));
                delay += fault.latency + fault.jitter.mul_f64(self.rng.f64());
            }
        }
        delay
    }

    /// How much the clock is ahead for a request of `conn`, or for what nobody asked for, in milliseconds.
    pub fn skew(&mut self, target: Target, conn: Option<ConnId>) -> i64 {
        let mut skew = 0;
        for fault in &mut self.active {
            let Detail::Skew(ms) = fault.detail else { continue };
            if !fault.reaches(FaultKind::ClockSkew, target, None) {
                continue;
            }
            let Some(conn) = conn else {
                // Events that nobody asked for do not use the count up.
                skew += ms;
                continue;
            };
            if fault.probability >= 1.0 || self.rng.f64() < fault.probability {
                fault.count(1, self.utc, format!("{} {}", target.label(), conn.0));
                skew += ms;
            }
        }
        skew
    }

    /// Why a symbol does not trade, if it does not.
    pub fn halt(&self, symbol: usize) -> Option<Halt> {
        self.active.iter().find_map(|fault| match fault.detail {
            Detail::Halt(halt) if fault.symbol == Some(symbol) && fault.left != Some(0) => {
                Some(halt)
            }
            _ => None,
        })
    }

    /// All faults as JSON: those that last, and those that are over.
    pub fn state(&self, j: &mut Json) {
        j.obj(|j| {
            j.key("active").arr(|j| {
                for fault in &self.active {
                    j.obj(|j| fault.state(j, &self.symbols, self.now));
                }
            });
            j.key("over").arr(|j| {
                for fault in &self.over {
                    j.obj(|j| fault.state(j, &self.symbols, self.now));
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId(1);

    fn none() -> Faults {
        Faults::new(1, vec!["BTCUSDT".to_owned(), "ETHUSDT".to_owned()])
    }

    fn faults(body: &str) -> Faults {
        let mut faults = none();
        faults.add(body.as_bytes(), MonoNs::ZERO).expect("a fault");
        faults
    }

    fn expire(faults: &mut Faults, ms: u64) -> bool {
        faults.expire(MonoNs::from_millis(ms), UtcNs::default())
    }

    #[test]
    fn counts_run_out() {
        let mut faults = faults(r#"{"kind":"drop","target":"stream","count":2}"#);
        let mut hit = || faults.hit(FaultKind::Drop, Target::Stream, None, CONN);
        assert_eq!([hit(), hit(), hit()], [true, true, false]);
        assert!(expire(&mut faults, 0) && faults.is_empty());
    }

    #[test]
    fn targets_and_symbols_are_kept_apart() {
        let mut faults = faults(r#"{"kind":"gap","symbol":"ETHUSDT"}"#);
        let mut hit = |kind, symbol| faults.hit(kind, Target::Stream, symbol, CONN);
        assert!(!hit(FaultKind::Gap, Some(0)) && !hit(FaultKind::Gap, None));
        assert!(!hit(FaultKind::Drop, Some(1)));
        assert!(hit(FaultKind::Gap, Some(1)));
    }

    #[test]
    fn durations_end() {
        let mut faults = faults(r#"{"kind":"half_open","duration_ms":10}"#);
        assert!(!expire(&mut faults, 9) && expire(&mut faults, 10));
    }

    #[track_caller]
    fn refused(body: &str, why: &str) {
        let error = none().add(body.as_bytes(), MonoNs::ZERO).expect_err(body);
        assert!(error.contains(why), "{body}: {error}");
    }

    #[test]
    fn nonsense_is_refused_with_what_there_is() {
        refused("", "EOF");
        refused("{}", "kind");
        refused(r#"{"kind":"x"}"#, "late_fill, duplicate_fill");
        refused(r#"{"kind":"drop","foo":1}"#, "expected one of");
        refused(r#"{"kind":"drop","probability":2}"#, "from 0 to 1");
        refused(r#"{"kind":"drop","target":"x"}"#, "user_data");
        refused(r#"{"kind":"late_fill","target":"rest"}"#, "has user_data");
        refused(r#"{"kind":"drop","latency_ms":1}"#, "duration_ms");
        refused(r#"{"kind":"slow","how":"json"}"#, "jitter_ms");
        refused(r#"{"kind":"status","status":200}"#, "504");
        refused(r#"{"kind":"symbol_status"}"#, "BTCUSDT, ETHUSDT");
        refused(r#"{"kind":"symbol_status","symbol":"BTCUSDT","status":"GONE"}"#, "BREAK, HALT");
        refused(r#"{"kind":"gap","symbol":"NOPE"}"#, "BTCUSDT");
        refused(r#"{"kind":"clock_skew_ms"}"#, "skew_ms");
    }
}
