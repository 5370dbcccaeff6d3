//! The wiring table: which actor, on which thread, joined to whom by which mailbox, drained in which phase.
//!
//! What comes in: a [`Config`], a [`World`] and the keys. What goes out: an [`Engine`], to be run on threads or
//! stepped. What always holds: this is the only place where trading meets runtime by name, and every edge and every
//! child of the engine is declared here.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{MonoNs, UtcNs};
use crate::config::{Config, Mode};
use crate::ops::sources::StatusSources;
use crate::runtime::child::SpecError;
use crate::runtime::fault::FaultSpec;
use crate::runtime::restart::Intensity;
use crate::runtime::system::{System, SystemBuilder, SystemSettings, Threading, Wrap};
use crate::trading::risk::KillSwitch;
use crate::trading::venue::binance::Credentials;

use self::reload::LiveSettings;
use self::wiring::Wiring;

// API keys out of private files.
pub mod keys;
// The state folder and its lock.
pub mod state;
// What may change while the engine runs.
pub mod reload;
// The machine, or a virtual world.
pub mod world;
// The edges and their policies.
mod edges;
// The engine seen as a whole, and its last resort.
mod oversight;
// The children, one function per kind of actor.
mod wiring;

pub(crate) use self::reload::{limits_of, missing_limits};
pub use self::world::World;

/// The drain phases, in order (design, section 5): the order sender settles while its session still lives.
const PHASES: [&str; 6] = ["strategies", "settle", "feeds", "books", "journal", "ops"];

/// A venue to trade at: where it is and how to sign.
#[derive(Clone)]
pub struct VenueAccess {
    /// Base of the REST API.
    pub rest_url: String,
    /// Base of the market streams.
    pub stream_url: String,
    /// The WebSocket API.
    pub ws_api_url: String,
    /// The keys.
    pub credentials: Arc<Credentials>,
}

/// What the wiring needs besides the configuration.
pub struct Parts {
    /// What surrounds the engine.
    pub world: World,
    /// How to reach each venue of the configuration, in its order.
    pub access: Vec<VenueAccess>,
    /// The embedded venue's settings, in demo mode.
    pub embedded: Option<crate::sim::settings::VenueSettings>,
    /// The journal's folder.
    pub journal_dir: PathBuf,
    /// Where `status.json` is kept, if it is wanted.
    pub status_file: Option<PathBuf>,
    /// Actors to break on purpose.
    pub faults: Vec<FaultSpec>,
    /// Put around every actor; for probes.
    pub wrap: Option<Wrap>,
    /// When the process started: part of every client order id.
    pub boot: UtcNs,
    /// The same moment on the monotonic clock.
    pub started: MonoNs,
}

/// The engine, wired and not yet running.
pub struct Engine {
    /// The actors.
    pub system: System,
    /// What can be seen of them.
    pub sources: Arc<StatusSources>,
    /// What stops all new orders.
    pub kill_switch: KillSwitch,
    /// What a reload of the configuration reaches.
    pub live: LiveSettings,
}

/// Why an engine cannot be wired.
#[derive(Debug)]
pub enum EngineError {
    /// The declaration is wrong: cores, capacities, deadlines.
    Spec(Vec<SpecError>),
    /// A fault names no actor of this engine.
    Fault(String),
    /// A limit or parameter does not fit its instrument.
    Setting(String),
    /// The journal is damaged.
    Journal(String),
    /// The system refuses to let the journal be read.
    JournalIo(String),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spec(errors) => {
                let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::Fault(why) => write!(f, "--fault: {why}"),
            Self::Setting(why) => f.write_str(why),
            Self::Journal(why) | Self::JournalIo(why) => write!(f, "journal: {why}"),
        }
    }
}

impl std::error::Error for EngineError {}

impl Engine {
    /// Wires the engine that `config` describes.
    ///
    /// # Errors
    /// Everything that can be known before anything starts.
    pub fn wire(config: &Config, parts: Parts) -> Result<Self, EngineError> {
        if config.mode == Mode::Live && !parts.faults.is_empty() {
            return Err(EngineError::Fault("never in live mode".to_owned()));
        }
        let threading =
            if config.shared_threading { Threading::Shared } else { Threading::Dedicated };
        let builder = SystemBuilder::new(threading, settings(config));
        let faults = parts.faults.clone();
        let mut wiring = Wiring::new(config, parts, builder)?;
        wiring.wire()?;
        wiring.finish(&faults)
    }
}

/// The limits of the runtime that the configuration sets; the others keep their defaults.
fn settings(config: &Config) -> SystemSettings {
    let mut settings = SystemSettings { phase_names: PHASES.to_vec(), ..SystemSettings::default() };
    settings.intensity = intensity(config);
    settings.strict_pin = config.supervisor.strict_pin;
    settings.root_intensity = Intensity {
        count_max: config.supervisor.group_restarts_max as usize,
        period: config.supervisor.group_period,
    };
    settings
}

/// What every group of actors may spend.
fn intensity(config: &Config) -> Intensity {
    Intensity {
        count_max: config.supervisor.restarts_max as usize,
        period: config.supervisor.period,
    }
}

/// A phase's share of the drain: together they stay below the hard limit of 8 s.
fn drain_timeout(phase: u8) -> Duration {
    Duration::from_millis(match phase {
        0 => 1_000,
        1 => 3_000,
        2 | 3 => 500,
        4 => 1_500,
        _ => 300,
    })
}
