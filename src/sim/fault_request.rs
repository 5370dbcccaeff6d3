//! What `/sim/faults` may be asked for. In: the JSON of a request. Out: what it names, or what is wrong with it and what
//! there is instead.

use serde::Deserialize;

use super::faults::{Corruption, Detail, FaultKind, Halt, Target, When};

/// Longest latency, jitter and skew, in milliseconds.
const LATENCY_MS_MAX: u64 = 600_000;

/// The statuses that the venue's documentation knows as failures of its own.
const STATUSES: [u16; 6] = [403, 418, 429, 500, 503, 504];

/// A fault as `/sim/faults` asks for it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultRequest {
    pub(super) kind: String,
    pub(super) target: Option<String>,
    pub(super) symbol: Option<String>,
    pub(super) count: Option<u64>,
    pub(super) probability: Option<f64>,
    pub(super) duration_ms: Option<u64>,
    pub(super) latency_ms: Option<u64>,
    pub(super) jitter_ms: Option<u64>,
    pub(super) how: Option<String>,
    pub(super) status: Option<serde_json::Value>,
    pub(super) when: Option<String>,
    pub(super) code: Option<i32>,
    pub(super) msg: Option<String>,
    #[serde(alias = "clock_skew_ms")]
    pub(super) skew_ms: Option<i64>,
}

impl FaultRequest {
    /// Refuses keys that would mean nothing.
    pub(super) fn check_keys(&self, kind: FaultKind) -> Result<(), String> {
        let keys = [
            ("latency_ms", self.latency_ms.is_some()),
            ("jitter_ms", self.jitter_ms.is_some()),
            ("how", self.how.is_some()),
            ("status", self.status.is_some()),
            ("when", self.when.is_some()),
            ("code", self.code.is_some()),
            ("msg", self.msg.is_some()),
            ("skew_ms", self.skew_ms.is_some()),
        ];
        let known = kind.keys();
        let strange = keys.iter().find(|(key, there)| *there && !known.contains(key));
        if let Some((key, _)) = strange {
            let more: String = known.iter().map(|key| format!(", {key}")).collect();
            return Err(format!(
                "{key}: {} has target, symbol, count, probability, duration_ms{more}",
                kind.label()
            ));
        }
        let times = [self.latency_ms, self.jitter_ms, self.skew_ms.map(i64::unsigned_abs)];
        if times.into_iter().flatten().any(|ms| ms > LATENCY_MS_MAX) {
            return Err(format!("latency_ms, jitter_ms, skew_ms: at most {LATENCY_MS_MAX}"));
        }
        Ok(())
    }

    pub(super) fn target(&self, kind: FaultKind) -> Result<Option<Target>, String> {
        let Some(text) = &self.target else { return Ok(None) };
        let target = Target::parse("target", text)?;
        if kind.targets().contains(&target) {
            return Ok(Some(target));
        }
        let known: Vec<&str> = kind.targets().iter().map(|t| t.label()).collect();
        Err(match known.as_slice() {
            [] => format!("target {text}: {} is about the whole venue and has none", kind.label()),
            known => format!("target {text}: {} has {}", kind.label(), known.join(", ")),
        })
    }

    pub(super) fn symbol(
        &self,
        kind: FaultKind,
        symbols: &[String],
    ) -> Result<Option<usize>, String> {
        match &self.symbol {
            None if kind == FaultKind::SymbolStatus => {
                Err(format!("symbol: needed; one of {}", symbols.join(", ")))
            }
            None => Ok(None),
            Some(_) if kind.of_connections() => {
                Err(format!("symbol: {} is about connections and has none", kind.label()))
            }
            Some(name) => match symbols.iter().position(|s| s == name) {
                Some(at) => Ok(Some(at)),
                None => Err(format!("symbol {name}: expected one of {}", symbols.join(", "))),
            },
        }
    }

    /// What only this kind has.
    pub(super) fn detail(&self, kind: FaultKind) -> Result<Detail, String> {
        Ok(match kind {
            FaultKind::Corrupt => match &self.how {
                Some(how) => Detail::How(Some(Corruption::parse("how", how)?)),
                None => Detail::How(None),
            },
            FaultKind::Status => {
                let status = self.status.as_ref().and_then(serde_json::Value::as_u64);
                let status = STATUSES.into_iter().find(|s| Some(u64::from(*s)) == status);
                let status =
                    status.ok_or_else(|| format!("status: expected one of {STATUSES:?}"))?;
                let when = self.when.as_deref().unwrap_or("before");
                Detail::Status(status, When::parse("when", when)?)
            }
            FaultKind::SymbolStatus => {
                let status = self.status.as_ref().and_then(serde_json::Value::as_str);
                Detail::Halt(Halt::parse("status", status.unwrap_or("BREAK"))?)
            }
            FaultKind::Reject => {
                let msg = self.msg.as_deref().unwrap_or("This action is disabled on this account.");
                Detail::Refusal(self.code.unwrap_or(-2010), msg.chars().take(200).collect())
            }
            FaultKind::ClockSkew => {
                Detail::Skew(self.skew_ms.ok_or("skew_ms: needed, in milliseconds")?)
            }
            _ => Detail::None,
        })
    }
}
