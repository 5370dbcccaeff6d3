//! What may change while the engine runs: limits, parameters of strategies, the log level.
//!
//! Comes in: the configuration as typed, read once more. Goes out: new values to the order senders and strategies that
//! run and to their next generations, and a list of what changed. What always holds: a configuration with any mistake
//! changes nothing; nothing of a key that needs a restart is half in force; nobody's turn waits for any of this.

use std::collections::BTreeMap;

use crate::config::tree::Tree;
use crate::config::{Config, Mode, StrategyConfig};
use crate::runtime::setting::Setting;
use crate::trading::domain::{InstrumentId, Instruments};
use crate::trading::risk::Limits;
use crate::trading::risk::limits::LimitsConfig;
use crate::trading::strategy::Parameters;

/// Limits of the instruments that one order sender trades.
pub(super) type VenueLimits = Vec<(InstrumentId, Limits)>;

/// Keys of a strategy's table that are not its own parameters.
const STRATEGY_WIRING: [&str; 4] = ["kind", "venue", "symbol", "timer_ms"];

/// What a reload reaches, in the order of the configuration.
#[derive(Clone)]
pub struct LiveSettings {
    pub(super) instruments: Instruments,
    /// Of every venue.
    pub(super) limits: Vec<Setting<VenueLimits>>,
    /// Of every strategy, with what it trades.
    pub(super) strategies: Vec<(InstrumentId, Setting<Parameters>)>,
}

/// What became of a changed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is in force, or will be within a tenth of a second.
    Applied,
    /// It is what it was until the engine is started again.
    NeedsRestart,
    /// The command line says otherwise, and wins.
    Overridden,
}

impl Effect {
    /// The word used in the log.
    pub fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NeedsRestart => "needs_restart",
            Self::Overridden => "overridden",
        }
    }
}

/// One key that differs from what runs; values are as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, dotted.
    pub key: String,
    /// What runs; `None` for a default.
    pub from: Option<String>,
    /// What is wanted; `None` for a default.
    pub to: Option<String>,
    /// What became of it.
    pub effect: Effect,
}

/// Changes the log level.
pub type SetLevel = Box<dyn FnMut(log::LevelFilter) + Send>;

/// The configuration that runs, and how to change it.
pub struct Reload {
    running: Config,
    typed: BTreeMap<String, String>,
    live: LiveSettings,
    /// `None` where the command line has set the level.
    set_level: Option<SetLevel>,
}

impl Reload {
    /// Begins with what the engine was started with.
    pub fn new(config: Config, tree: &Tree, live: LiveSettings, level: Option<SetLevel>) -> Self {
        Self { running: config, typed: tree.flat(), live, set_level: level }
    }

    /// Brings into force what may change while the engine runs; every key that differs from what runs.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration; nothing has changed then.
    pub fn apply(&mut self, tree: &Tree, mode: Option<Mode>) -> Result<Vec<Change>, Vec<String>> {
        let read = Config::read(tree, mode);
        let next = read.map_err(|e| e.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        // The mode that runs decides whether limits may be left out.
        let wanted = Config { risk: next.risk.clone(), ..self.running.clone() };
        let limits = self.resolve_limits(&wanted)?;
        let parameters = self.read_parameters(&next)?;
        let typed = tree.flat();
        let changes = self.compare(&typed, &next);
        let touches = |prefix: &str| {
            changes.iter().any(|c| c.effect == Effect::Applied && c.key.starts_with(prefix))
        };
        if touches("risk.") {
            self.live.limits.iter().zip(limits).for_each(|(setting, value)| setting.set(value));
            self.running.risk = next.risk.clone();
        }
        for (index, parameters) in parameters.into_iter().enumerate() {
            let name = &self.running.strategies[index].name;
            if let Some(parameters) = parameters.filter(|_| touches(&format!("strategy.{name}."))) {
                self.live.strategies[index].1.set(parameters);
            }
        }
        if touches("log.") {
            let level = next.log_level.unwrap_or(log::LevelFilter::Info);
            self.set_level.iter_mut().for_each(|set| set(level));
        }
        self.remember(&changes);
        Ok(changes)
    }

    /// The limits of every venue that runs, as `config` has them.
    fn resolve_limits(&self, config: &Config) -> Result<Vec<VenueLimits>, Vec<String>> {
        let mut errors = missing_limits(config);
        let mut all = Vec::new();
        for setting in &self.live.limits {
            let mut venue = Vec::new();
            for (id, _) in setting.newest() {
                let instrument = &self.live.instruments[id.index()];
                match limits_of(config, &instrument.symbol).resolve(instrument) {
                    Ok(limits) => venue.push((id, limits)),
                    Err(e) => errors.push(format!("{}: {e}", instrument.symbol)),
                }
            }
            all.push(venue);
        }
        errors.dedup();
        if errors.is_empty() { Ok(all) } else { Err(errors) }
    }

    /// The parameters of every strategy that runs and that `next` has unchanged but for them.
    fn read_parameters(&self, next: &Config) -> Result<Vec<Option<Parameters>>, Vec<String>> {
        let mut errors = Vec::new();
        let mut all = Vec::new();
        for (running, (id, _)) in self.running.strategies.iter().zip(&self.live.strategies) {
            let instrument = &self.live.instruments[id.index()];
            let read = successor(running, next)
                .map(|s| Parameters::read(&s.kind, s.parameters.clone(), instrument));
            match read.transpose() {
                Ok(parameters) => all.push(parameters),
                Err(e) => errors.push(format!("strategy.{}: {e}", running.name)),
            }
        }
        if errors.is_empty() { Ok(all) } else { Err(errors) }
    }

    fn compare(&self, typed: &BTreeMap<String, String>, next: &Config) -> Vec<Change> {
        let keys: std::collections::BTreeSet<&String> =
            self.typed.keys().chain(typed.keys()).collect();
        let differs = keys.into_iter().filter(|key| self.typed.get(*key) != typed.get(*key));
        let change = |key: &String| Change {
            key: key.clone(),
            from: self.typed.get(key).cloned(),
            to: typed.get(key).cloned(),
            effect: self.effect(key, next),
        };
        differs.map(change).collect()
    }

    fn effect(&self, key: &str, next: &Config) -> Effect {
        let parts: Vec<&str> = key.split('.').collect();
        let may_change = match parts[..] {
            ["log", "level"] if self.set_level.is_none() => return Effect::Overridden,
            ["log", "level"] | ["risk", _] => true,
            ["risk", symbol, _] => {
                self.live.instruments.iter().any(|it| it.symbol.as_str() == symbol)
            }
            ["strategy", name, parameter, ..] => {
                let running = self.running.strategies.iter().find(|s| s.name == name);
                running.is_some_and(|s| successor(s, next).is_some())
                    && !STRATEGY_WIRING.contains(&parameter)
            }
            _ => false,
        };
        if may_change { Effect::Applied } else { Effect::NeedsRestart }
    }

    /// What was applied is what runs now; everything else is told again by the next reload.
    fn remember(&mut self, changes: &[Change]) {
        for change in changes.iter().filter(|c| c.effect == Effect::Applied) {
            match &change.to {
                Some(text) => self.typed.insert(change.key.clone(), text.clone()),
                None => self.typed.remove(&change.key),
            };
        }
    }
}

/// The same strategy in another configuration, if it trades the same thing in the same way.
fn successor<'a>(running: &StrategyConfig, next: &'a Config) -> Option<&'a StrategyConfig> {
    let is_same = |s: &&StrategyConfig| {
        (&s.name, &s.kind, &s.venue, &s.symbol)
            == (&running.name, &running.kind, &running.venue, &running.symbol)
    };
    next.strategies.iter().find(is_same)
}

/// The limits in force for a symbol, as text.
pub(crate) fn limits_of(config: &Config, symbol: &str) -> LimitsConfig {
    let own = config.risk.symbols.get(symbol).cloned().unwrap_or_default();
    let said = own.or(&config.risk.account);
    if config.mode == Mode::Live { said } else { said.or(&LimitsConfig::conservative()) }
}

/// What live mode wants to be set and is not, one line each; elsewhere the defaults hold.
pub(crate) fn missing_limits(config: &Config) -> Vec<String> {
    let mut missing = Vec::new();
    for symbol in config.venues.iter().flat_map(|v| &v.symbols) {
        for key in limits_of(config, symbol).missing() {
            let mode = config.mode.label();
            missing
                .push(format!("risk.{key} is not set for {symbol}; mode {mode} needs every limit"));
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::trading::domain::instrument::Name;
    use crate::trading::domain::{Instrument, Qty, VenueId};

    struct Bench {
        reload: Reload,
        limits: Setting<VenueLimits>,
        parameters: Setting<Parameters>,
        level: Arc<AtomicUsize>,
    }

    fn tree(text: &str) -> Tree {
        Tree::parse("t.toml", text).expect("TOML")
    }

    impl Bench {
        /// An engine that was started with `text`; it trades BTCUSDT.
        fn new(text: &str) -> Self {
            let config = Config::read(&tree(text), None).expect("valid");
            let symbol = Name::from("BTCUSDT").expect("short");
            let id = InstrumentId(0);
            let instrument = Instrument::new(id, VenueId(0), symbol, symbol, (8, 8));
            let resolved = limits_of(&config, "BTCUSDT").resolve(&instrument).expect("complete");
            let limits = Setting::new(vec![(id, resolved)]);
            let strategy = &config.strategies[0];
            let parameters =
                Parameters::read(&strategy.kind, strategy.parameters.clone(), &instrument);
            let parameters = Setting::new(parameters.expect("valid"));
            let live = LiveSettings {
                instruments: Arc::from(vec![instrument]),
                limits: vec![limits.clone()],
                strategies: vec![(id, parameters.clone())],
            };
            let level = Arc::new(AtomicUsize::new(99));
            let set = Arc::clone(&level);
            let set: SetLevel = Box::new(move |l| set.store(l as usize, Ordering::Relaxed));
            let reload = Reload::new(config, &tree(text), live, Some(set));
            Self { reload, limits, parameters, level }
        }

        fn news(&self) -> (bool, bool) {
            (self.limits.news().is_some(), self.parameters.news().is_some())
        }
    }

    const QUOTES: &str = "[strategy.quotes]\nkind = \"market_maker\"\n";

    #[track_caller]
    fn check(added: &str, expect: &[(&str, Effect)], news: (bool, bool)) {
        let mut bench = Bench::new(QUOTES);
        let changes = bench.reload.apply(&tree(&format!("{QUOTES}{added}")), None).expect("valid");
        let seen: Vec<_> = changes.iter().map(|c| (c.key.as_str(), c.effect)).collect();
        assert_eq!(seen, expect);
        assert_eq!(bench.news(), news);
    }

    #[test]
    fn what_may_change_is_applied_and_the_rest_is_named() {
        use Effect::{Applied, NeedsRestart};
        check("", &[], (false, false));
        check("spread_bps = \"9\"", &[("strategy.quotes.spread_bps", Applied)], (false, true));
        check("timer_ms = 7", &[("strategy.quotes.timer_ms", NeedsRestart)], (false, false));
        check("[risk]\norder_qty_max = \"0.2\"", &[("risk.order_qty_max", Applied)], (true, false));
        check(
            "[risk.BTCUSDT]\nopen_orders_max = 3",
            &[("risk.BTCUSDT.open_orders_max", Applied)],
            (true, false),
        );
        check("[journal]\nsync = \"never\"", &[("journal.sync", NeedsRestart)], (false, false));
        check(
            "[strategy.more]\nkind = \"market_maker\"",
            &[("strategy.more.kind", NeedsRestart)],
            (false, false),
        );
        check(
            "[venue.binance]\nsymbols = [\"BTCUSDT\", \"ETHUSDT\"]\n[risk.ETHUSDT]\nopen_orders_max = 3",
            &[
                ("risk.ETHUSDT.open_orders_max", NeedsRestart),
                ("venue.binance.symbols", NeedsRestart),
            ],
            (false, false),
        );
        check(
            "spread_bps = \"9\"\n[actor.journal]\nidle = \"park\"\n[risk]\norders_per_s_max = 1",
            &[
                ("actor.journal.idle", NeedsRestart),
                ("risk.orders_per_s_max", Applied),
                ("strategy.quotes.spread_bps", Applied),
            ],
            (true, true),
        );
    }

    #[track_caller]
    fn refused(text: &str, why: &str) {
        let mut bench = Bench::new(QUOTES);
        let (limits, parameters) = (bench.limits.newest(), bench.parameters.newest());
        let errors = bench.reload.apply(&tree(text), None).expect_err("wrong");
        assert!(errors.iter().any(|e| e.contains(why)), "{errors:?}");
        assert_eq!(bench.news(), (false, false));
        assert_eq!((bench.limits.newest(), bench.parameters.newest()), (limits, parameters));
        // What runs is still what it was started with.
        assert_eq!(bench.reload.apply(&tree(QUOTES), None), Ok(Vec::new()));
    }

    #[test]
    fn a_mistake_anywhere_changes_nothing() {
        let with = |text: &str| format!("{QUOTES}order_qty = \"0.002\"\n{text}");
        refused(&with("[risk]\norder_qty_max = \"much\""), "order_qty_max");
        refused(&with("[risk]\norder_qty_max = \"0.0000000001\""), "order_qty_max");
        refused(&with("[risk]\norder_qty = \"1\""), "risk.order_qty");
        refused(&with("spread_bps = \"wide\""), "spread_bps");
        refused(&with("[journal]\nsync = \"sometimes\""), "journal.sync");
        refused("[strategy.quotes]\nkind = \"unheard_of\"", "unheard_of");
    }

    #[test]
    fn live_mode_still_wants_every_limit() {
        let limits = "[risk]\norder_qty_max = \"1\"\norder_notional_max = \"1\"\nposition_max = \"1\"\n\
            open_orders_max = 1\norders_per_s_max = 1\nprice_collar_bps = 1\nbook_age_max_ms = 1\n";
        let all = format!("{QUOTES}{limits}decision_age_max_ms = 1\n");
        let mut bench = Bench::new(&all);
        bench.reload.running.mode = Mode::Live;
        let errors = bench.reload.apply(&tree(&format!("{QUOTES}{limits}")), None);
        assert!(errors.expect_err("one is missing")[0].contains("risk.decision_age_max_ms"));
        assert_eq!(bench.news(), (false, false));
    }

    #[test]
    fn values_reach_those_that_run_and_those_that_follow() {
        let mut bench = Bench::new(QUOTES);
        let text = format!("{QUOTES}[risk]\nposition_max = \"2\"\n[log]\nlevel = \"debug\"\n");
        bench.reload.apply(&tree(&text), None).expect("valid");
        let position = Qty::from_units(200_000_000);
        assert_eq!(bench.limits.news().expect("news")[0].1.position_max, position);
        assert_eq!(bench.limits.newest()[0].1.position_max, position);
        assert_eq!(bench.level.load(Ordering::Relaxed), log::LevelFilter::Debug as usize);
        // Back to the defaults.
        bench.reload.apply(&tree(QUOTES), None).expect("valid");
        let conservative = Qty::from_units(50_000_000);
        assert_eq!(bench.limits.newest()[0].1.position_max, conservative);
        assert_eq!(bench.level.load(Ordering::Relaxed), log::LevelFilter::Info as usize);
    }

    #[test]
    fn what_needs_a_restart_is_told_again_and_what_is_applied_is_not() {
        let mut bench = Bench::new(QUOTES);
        let text = format!("{QUOTES}[ops]\nlisten = \"off\"\n[risk]\nopen_orders_max = 2\n");
        assert_eq!(bench.reload.apply(&tree(&text), None).map(|c| c.len()), Ok(2));
        let again = bench.reload.apply(&tree(&text), None).expect("valid");
        let seen: Vec<_> = again.iter().map(|c| (c.key.as_str(), c.effect)).collect();
        assert_eq!(seen, [("ops.listen", Effect::NeedsRestart)]);
        assert_eq!((again[0].from.as_deref(), again[0].to.as_deref()), (None, Some("\"off\"")));
    }

    #[test]
    fn the_command_lines_log_level_wins() {
        let mut bench = Bench::new(QUOTES);
        bench.reload.set_level = None;
        let text = format!("{QUOTES}[log]\nlevel = \"debug\"\n");
        let changes = bench.reload.apply(&tree(&text), None).expect("valid");
        assert_eq!(changes[0].effect, Effect::Overridden);
    }
}
