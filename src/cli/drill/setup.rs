//! The user's configuration, bent to the simulated venue. In: the configuration file and `--set`. Out: what to start
//! engine and venue with. What always holds: mode testnet, every URL of every venue on loopback, and keys made up for
//! the drill: the configured venues and key files are never touched, whatever the mode of the file.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::{ConfigArgs, parse_tree, read_text};
use crate::config::{Config, ConfigErrors, Mode, OnExit, general_error};
use crate::runtime::child::ChildSpec;
use crate::sim::settings::VenueSettings;

/// The made-up account of the simulated venues.
const KEY: &str = "drill-key";
const SECRET: &str = "drill-secret";
/// No drill takes so long: its processes end by themselves after this.
const LIFE: &str = "10m";
/// The copy of the configuration file, in the folder of a drill.
const CONFIGURATION: &str = "engine.toml";
/// The log is what drills look at, whatever the configuration says of it.
const LOG: &[&str] = &["--log-level", "info", "--log-format", "text"];
/// The port of addresses that are not known yet.
const NO_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// A venue of the configuration.
pub(super) struct SetupVenue {
    /// Its name.
    pub(super) name: String,
    /// What is traded there.
    pub(super) symbols: Vec<String>,
}

/// What all drills begin with.
pub(super) struct Setup {
    /// The text of the configuration file, read once: what is saved to it meanwhile is no part of what was checked.
    text: Option<String>,
    /// The user's own `--set`.
    set: Vec<String>,
    /// The configuration as the drilled engine reads it.
    config: Config,
    /// Its venues.
    pub(super) venues: Vec<SetupVenue>,
    /// What the drills change besides mode, venues, keys and folders; one sentence each.
    pub(super) changes: Vec<String>,
}

impl Setup {
    /// Reads the configuration, as it is and as it will be drilled.
    ///
    /// # Errors
    /// Everything that is wrong with it, and symbols that the simulated venue does not know.
    pub(super) fn new(file: Option<PathBuf>, set: Vec<String>) -> Result<Self, ConfigErrors> {
        let text = file.as_deref().map(read_text).transpose()?;
        let load = |set: &[String], mode| {
            let args = ConfigArgs { config: file.clone(), mode: Some(mode), set: set.to_vec() };
            Config::read(&parse_tree(&args, text.as_deref())?, args.mode)
        };
        // The demo needs no URL and no key: a live configuration is read without looking at either.
        let config = load(&set, Mode::Demo)?;
        let symbols = |v: &[String]| v.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>();
        for venue in &config.venues {
            VenueSettings::synthetic(venue.symbols.iter().map(String::as_str), 1)
                .map_err(|why| general_error(format!("venue.{}: {why}", venue.name)))?;
        }
        let mut changes = Vec::new();
        let mut all = set;
        for v in &config.venues {
            all.push(format!("venue.{}.symbols=[{}]", v.name, symbols(&v.symbols).join(",")));
        }
        for s in &config.strategies {
            for (key, value) in [("kind", &s.kind), ("venue", &s.venue), ("symbol", &s.symbol)] {
                all.push(format!("strategy.{}.{key}={value}", s.name));
            }
        }
        if config.on_exit == OnExit::Keep {
            all.push("on_exit=cancel".to_owned());
            changes
                .push("on_exit is cancel, not keep: an order that stays proves nothing".to_owned());
        }
        if config.supervisor.restarts_max == 0 {
            all.push("supervisor.restarts_max=1".to_owned());
            changes.push(
                "supervisor.restarts_max is 1, not 0: a crash could not be survived".to_owned(),
            );
        }
        let venues: Vec<SetupVenue> = config
            .venues
            .iter()
            .map(|v| SetupVenue { name: v.name.clone(), symbols: v.symbols.clone() })
            .collect();
        let mut setup = Self { set: all, config, venues, changes, text: None };
        let anywhere = vec![NO_PORT; setup.venues.len()];
        setup.config = load(&setup.overrides(&anywhere, Path::new("/")), Mode::Testnet)?;
        setup.text = text;
        Ok(setup)
    }

    /// The engine's actors, by the names of the configuration.
    pub(super) fn actors(&self) -> Vec<String> {
        let mut actors = self.essential_actors();
        actors.extend(self.venues.iter().map(|v| format!("rest-{}", v.name)));
        actors.extend(["watch", "ops"].map(str::to_owned));
        actors
    }

    /// The actors without which nothing may be traded.
    pub(super) fn essential_actors(&self) -> Vec<String> {
        let of_venues = |role: &str| {
            self.venues.iter().map(|v| format!("{role}-{}", v.name)).collect::<Vec<_>>()
        };
        let mut actors = of_venues("feed");
        actors.extend(of_venues("book"));
        actors.extend(self.strategies());
        actors.extend(of_venues("orders"));
        actors.push("journal".to_owned());
        actors
    }

    /// The strategies' actors.
    pub(super) fn strategies(&self) -> Vec<String> {
        self.config.strategies.iter().map(|s| format!("strategy-{}", s.name)).collect()
    }

    /// Without progress for so long, `actor` is wedged.
    pub(super) fn stall_limit(&self, actor: &str) -> Duration {
        let said = self.config.actors.get(actor).and_then(|a| a.stall_timeout);
        said.unwrap_or_else(default_stall_limit)
    }

    /// Whether an order waits until its record is written.
    pub(super) fn orders_wait_for_the_journal(&self) -> bool {
        self.config.journal.orders_wait
    }

    /// Restarts of one actor before the engine gives up.
    pub(super) fn restarts_max(&self) -> u32 {
        self.config.supervisor.restarts_max
    }

    /// The engine's command line, at venues that listen on `addresses`.
    pub(super) fn engine_args(&self, addresses: &[SocketAddr], dir: &Path) -> Vec<String> {
        let mut args = vec!["run".to_owned()];
        args.extend(self.text.iter().map(|_| dir.join(CONFIGURATION).display().to_string()));
        let state = dir.join("state").display().to_string();
        let fixed = ["--mode", "testnet", "--ops", "127.0.0.1:0", "--duration", LIFE];
        args.extend(fixed.iter().chain(LOG).map(|word| (*word).to_owned()));
        args.extend(["--state".to_owned(), state]);
        for assignment in self.overrides(addresses, dir) {
            args.extend(["--set".to_owned(), assignment]);
        }
        args
    }

    /// What wins over the file and the environment.
    fn overrides(&self, addresses: &[SocketAddr], dir: &Path) -> Vec<String> {
        let mut set = self.set.clone();
        for (venue, at) in self.venues.iter().zip(addresses) {
            let mut put = |key: &str, value: String| {
                set.push(format!("venue.{}.{key}={value}", venue.name));
            };
            put("rest_url", format!("http://{at}"));
            put("stream_url", format!("ws://{at}"));
            put("ws_api_url", format!("ws://{at}/ws-api/v3"));
            put("key_type", "hmac".to_owned());
            put("api_key_file", dir.join("key").display().to_string());
            put("api_secret_file", dir.join("secret").display().to_string());
        }
        set
    }

    /// The venues' command line.
    pub(super) fn venue_args(dir: &Path) -> Vec<String> {
        let file = dir.join("venues.toml").display().to_string();
        let fixed = ["venue", "--duration", LIFE];
        let words = fixed.iter().chain(LOG).map(|word| (*word).to_owned());
        words.chain(["--config".to_owned(), file]).collect()
    }

    /// Makes the folder of a drill, with the made-up keys and the copy of the configuration in it.
    pub(super) fn make_folder(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let keys = [("key", KEY), ("secret", SECRET)];
        let copy = self.text.iter().map(|text| (CONFIGURATION, text.as_str()));
        for (name, text) in keys.into_iter().chain(copy) {
            let path = dir.join(name);
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(path)?.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    /// Writes the venues' file. Without `addresses` they take free ports and begin anew; with them they go on at the
    /// same ports with what was saved.
    pub(super) fn write_venues(
        &self,
        dir: &Path,
        updates_per_s: u32,
        addresses: Option<&[SocketAddr]>,
    ) -> io::Result<()> {
        let mut text = format!(
            "market_seed = 1\n[[account]]\nname = \"drill\"\napi_key = \"{KEY}\"\nsecret = \"{SECRET}\"\n"
        );
        for (at, venue) in self.venues.iter().enumerate() {
            let saved = dir.join(format!("saved-{}.json", venue.name)).display().to_string();
            let any_port = || SocketAddr::new(NO_PORT.ip(), 0);
            let listen = addresses.and_then(|a| a.get(at).copied()).unwrap_or_else(any_port);
            text.push_str(&format!(
                "[[venue]]\nname = {:?}\nlisten = \"{listen}\"\nsymbols = {:?}\nupdates_per_s = {updates_per_s}\nsave = {saved:?}\n",
                venue.name, venue.symbols,
            ));
            if addresses.is_some() {
                text.push_str(&format!("restore = {saved:?}\n"));
            }
        }
        std::fs::write(dir.join("venues.toml"), text)
    }
}

/// The runtime's own limit.
fn default_stall_limit() -> Duration {
    ChildSpec::new(|_| Err(crate::runtime::actor::Fault::fatal("never started"))).stall_fail
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const LIVE: &str = r#"
        mode = "live"
        on_exit = "keep"
        [venue.north]
        rest_url = "https://api.binance.com"
        stream_url = "wss://stream.binance.com:9443"
        ws_api_url = "wss://ws-api.binance.com:443/ws-api/v3"
        symbols = ["BTCUSDT", "ETHUSDT"]
        key_type = "ed25519"
        api_key_file = "/nonexistent/key"
        api_secret_file = "/nonexistent/secret"
        [strategy.quotes]
        kind = "market_maker"
        [actor.orders-north]
        stall_timeout_ms = 5000
    "#;

    fn setup(text: &str) -> Result<Setup, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("engine.toml");
        std::fs::write(&file, text).expect("room");
        Setup::new(Some(file), Vec::new()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_live_configuration_is_drilled_on_loopback_with_made_up_keys() {
        let setup = setup(LIVE).expect("valid");
        let at = [SocketAddr::from(([127, 0, 0, 1], 4711))];
        let args = setup.engine_args(&at, Path::new("/drill"));
        let last = |key: &str| {
            let key = format!("venue.north.{key}=");
            args.iter().rev().find_map(|a| a.strip_prefix(&key)).unwrap_or_default()
        };
        assert_eq!(last("rest_url"), "http://127.0.0.1:4711");
        assert_eq!(last("stream_url"), "ws://127.0.0.1:4711");
        assert_eq!(last("ws_api_url"), "ws://127.0.0.1:4711/ws-api/v3");
        assert_eq!(last("api_key_file"), "/drill/key");
        assert_eq!(last("api_secret_file"), "/drill/secret");
        assert_eq!(setup.config.mode, Mode::Testnet);
        assert!(setup.config.venues.iter().all(|v| v.rest_url.starts_with("http://127.0.0.1")));
        assert_eq!(setup.config.on_exit, OnExit::Cancel);
        assert_eq!(setup.changes.len(), 1, "{:?}", setup.changes);
        assert_eq!(setup.stall_limit("orders-north"), Duration::from_secs(5));
        assert!(setup.actors().contains(&"strategy-quotes".to_owned()));
    }

    #[test]
    fn what_is_saved_meanwhile_is_not_drilled() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, drill) = (dir.path().join("live.toml"), dir.path().join("drill"));
        std::fs::write(&file, LIVE).expect("room");
        let setup = Setup::new(Some(file.clone()), Vec::new()).expect("valid");
        std::fs::write(&file, "[venue.south]").expect("room");
        setup.make_folder(&drill).expect("room");
        let copy = drill.join("engine.toml");
        let args = setup.engine_args(&[NO_PORT], &drill);
        assert_eq!(args[1], copy.display().to_string());
        assert!(args.iter().all(|arg| !arg.contains("live.toml")), "{args:?}");
        assert_eq!(std::fs::read_to_string(&copy).expect("written"), LIVE);
        let mode = std::fs::metadata(&copy).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn without_a_file_the_demo_is_drilled() {
        let setup = Setup::new(None, Vec::new()).expect("the demo");
        assert_eq!(setup.strategies(), ["strategy-quotes"]);
        assert_eq!(setup.venues[0].symbols, ["BTCUSDT"]);
    }

    #[test]
    fn mistakes_are_told_before_anything_starts() {
        let check = |text: &str, part: &str| {
            let error = setup(text).err().expect("refused");
            assert!(error.contains(part), "{error}");
        };
        check(&LIVE.replace("symbols", "symbol"), "did you mean `symbols`?");
        check(&LIVE.replace("BTCUSDT", "BTCNONE"), "BTCNONE");
        check(&LIVE.replace("market_maker", "market_taker"), "market_taker");
    }
}
