//! `pindrop check`: what a configuration means, or everything that is wrong with it.

use serde_json::{Value, json};

use crate::config::{Config, KeyType, Mode, OnExit, Sync};
use crate::topology::limits_of;

use super::{CheckArgs, ExitCode, load_config, print_line};

/// One pre-flight check.
struct Finding {
    id: &'static str,
    ok: bool,
    what: String,
}

/// Checks a configuration; the exit code.
pub fn run(args: &CheckArgs) -> u8 {
    let config = match load_config(&args.config) {
        Ok(config) => config,
        Err(errors) => {
            let errors: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
            print_answer(args.json, None, &[], &errors);
            return ExitCode::Configuration as u8;
        }
    };
    let findings = findings(&config);
    print_answer(args.json, Some(&config), &findings, &[]);
    if findings.iter().all(|f| f.ok) { 0 } else { ExitCode::Configuration as u8 }
}

fn print_answer(as_json: bool, config: Option<&Config>, findings: &[Finding], errors: &[String]) {
    let effective = config.map(effective);
    if as_json {
        let checks: Vec<Value> =
            findings.iter().map(|f| json!({"id": f.id, "ok": f.ok, "what": f.what})).collect();
        let ok = errors.is_empty() && findings.iter().all(|f| f.ok);
        print_line(
            &json!({"ok": ok, "config": effective, "checks": checks, "errors": errors}).to_string(),
        );
        return;
    }
    for error in errors {
        print_line(&format!("error  {error}"));
    }
    if let Some(effective) = effective {
        print_keys("", &effective);
    }
    for finding in findings {
        let word = if finding.ok { "PASS" } else { "FAIL" };
        print_line(&format!("{word}  {}  {}", finding.id, finding.what));
    }
}

/// Prints a tree as dotted keys, one a line.
fn print_keys(path: &str, value: &Value) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                print_keys(&path, value);
            }
        }
        _ => print_line(&format!("{path} = {value}")),
    }
}

/// The settings in force. Secrets are not in a configuration, only the names of their files.
fn effective(config: &Config) -> Value {
    let ms = |span: std::time::Duration| json!(span.as_millis());
    let mut venues = serde_json::Map::new();
    for v in &config.venues {
        let venue = json!({
            "rest_url": v.rest_url, "stream_url": v.stream_url, "ws_api_url": v.ws_api_url, "symbols": v.symbols,
            "key_type": match v.key_type { KeyType::Hmac => "hmac", KeyType::Ed25519 => "ed25519" },
            "api_key_file": v.api_key_file, "api_secret_file": v.api_secret_file.as_ref().map(|_| "(hidden)"),
            "recv_window_ms": ms(v.recv_window), "stale_after_ms": ms(v.stale_after),
        });
        venues.insert(v.name.clone(), venue);
    }
    let mut strategies = serde_json::Map::new();
    for s in &config.strategies {
        let strategy = json!({
            "kind": s.kind, "venue": s.venue, "symbol": s.symbol, "timer_ms": ms(s.timer), "parameters": s.parameters,
        });
        strategies.insert(s.name.clone(), strategy);
    }
    let mut risk = serde_json::Map::new();
    for symbol in config.venues.iter().flat_map(|v| &v.symbols) {
        // The limits are plain data: they can always be shown.
        risk.insert(
            symbol.clone(),
            serde_json::to_value(limits_of(config, symbol)).unwrap_or(Value::Null),
        );
    }
    json!({
        "mode": config.mode.label(),
        "engine": config.engine,
        "threading": if config.shared_threading { "shared" } else { "dedicated" },
        "on_exit": match config.on_exit { OnExit::Cancel => "cancel", OnExit::Keep => "keep" },
        "venue": venues, "strategy": strategies, "risk": risk,
        "supervisor": {
            "restarts_max": config.supervisor.restarts_max, "period_ms": ms(config.supervisor.period),
            "group_restarts_max": config.supervisor.group_restarts_max,
            "group_period_ms": ms(config.supervisor.group_period),
            "live_within_ms": ms(config.supervisor.live_within),
            "strict_pin": config.supervisor.strict_pin,
        },
        "journal": {
            "orders": if config.journal.orders_wait { "written" } else { "handed_over" },
            "sync": match config.journal.sync {
                Sync::Never => "never".to_owned(),
                Sync::Interval(span) => format!("interval of {span:?}"),
                Sync::EachBatch => "each_batch".to_owned(),
            },
            "segment_bytes_max": config.journal.segment_bytes_max,
        },
        "ops": {"listen": config.ops.listen.map_or_else(|| "off".to_owned(), |a| a.to_string())},
        "log": {"level": config.log_level.map_or("info".to_owned(), |l| l.to_string().to_lowercase())},
        "state": {"dir": config.state_dir},
    })
}

fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for venue in &config.venues {
        if config.mode != Mode::Demo {
            let keys = super::run::credentials_of(venue);
            let what = keys.as_ref().err().cloned();
            let what = what.unwrap_or_else(|| {
                format!("venue.{}: the key files are private and readable", venue.name)
            });
            findings.push(Finding { id: "keys", ok: keys.is_ok(), what });
        }
        for symbol in &venue.symbols {
            let missing = limits_of(config, symbol).missing();
            let what = if missing.is_empty() {
                format!("{symbol}: every limit is set")
            } else {
                format!("{symbol}: mode {} needs {}", config.mode.label(), missing.join(", "))
            };
            findings.push(Finding { id: "limits", ok: missing.is_empty(), what });
        }
    }
    let loopback = config.ops.listen.is_none_or(|a| a.ip().is_loopback());
    let what = if loopback {
        "the status page listens on loopback or not at all"
    } else {
        "ops.listen is not a loopback address"
    };
    findings.push(Finding { id: "ops", ok: loopback, what: what.to_owned() });
    findings
}
