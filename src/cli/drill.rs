//! `pindrop drill`: breaks a real engine on purpose, against simulated venues, and says which promises held.
//!
//! What comes in: the user's own configuration, and which drills. What goes out: a table, or JSON, and exit code 1 when
//! a promise was broken or nothing was proved. What always holds: the engine is this very program as a process of its own, with its mode,
//! URLs and keys overridden (see `setup`): no configured venue is contacted and no configured key is read, whatever the
//! mode of the file. Each drill has engine, venues and folder of its own.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::clock::{Clock, MonoNs};
use crate::config::ConfigErrors;
use crate::runtime::signal::Signals;

use super::{ExitCode, print_error, print_line};

use self::catalogue::Drill;
use self::setup::Setup;
use self::stage::{Stage, short};
use self::table::{Row, Verdict};

// Names and promises.
mod catalogue;
// A process, its log and its end.
mod child;
// What must be true at the end.
mod ending;
// One exchange on loopback.
mod http;
// The drills, played.
mod script;
// The configuration, bent to the simulated venue.
mod setup;
// Engine, venues, and what is seen of them.
mod stage;
// What came of it.
mod table;

/// A promise was broken, or none was put to the test: all drills were skipped, or the one that breaks nothing was.
const EXIT_BROKEN: u8 = 1;

/// Arguments of `pindrop drill`.
#[derive(Clone, Debug, Args)]
pub struct DrillArgs {
    /// The configuration file (a path: with a `/`, or ending in .toml), then names of drills or of their families, such
    /// as lost-ack or panic. The demo and all drills when absent.
    #[arg(value_name = "CONFIG|NAME")]
    words: Vec<String>,
    /// Only these drills; as NAME.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Some drills that take less than a minute together.
    #[arg(long)]
    quick: bool,
    /// Print the names and promises, and play nothing.
    #[arg(long)]
    list: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Keep the folders of all drills here. Otherwise only those of broken ones are kept, in the temporary folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Override one key of the configuration; venue addresses and keys are the drill's own in any case.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Not for people: run the words as arguments of this program, in place of it, until the process PID is gone.
    #[arg(long, hide = true, value_name = "PID")]
    dies_with: Option<i32>,
}

impl DrillArgs {
    /// The configuration file, and the drills' names.
    fn file_and_names(&self) -> (Option<PathBuf>, Vec<String>) {
        let is_path = |word: &&String| word.contains('/') || word.ends_with(".toml");
        let file = self.words.first().filter(is_path);
        let names = self.words.iter().skip(usize::from(file.is_some()));
        (file.map(PathBuf::from), names.chain(&self.only).cloned().collect())
    }
}

/// Why the drills end before their end.
enum Refusal {
    Configuration(ConfigErrors),
    Usage(String),
    System(io::Error),
}

/// Plays the drills; the exit code.
pub fn run(args: &DrillArgs, signals: &Signals) -> u8 {
    let (code, why) = match try_run(args, signals) {
        Ok(code) => return code,
        Err(Refusal::Configuration(errors)) => (ExitCode::Configuration, errors.to_string()),
        Err(Refusal::Usage(why)) => (ExitCode::Usage, why),
        Err(Refusal::System(error)) => (ExitCode::SystemRefused, error.to_string()),
    };
    for line in why.lines() {
        print_error(&format!("pindrop drill: {line}"));
    }
    code as u8
}

fn try_run(args: &DrillArgs, signals: &Signals) -> Result<u8, Refusal> {
    if let Some(drill) = args.dies_with {
        return Err(Refusal::System(child::become_child(drill, &args.words)));
    }
    let (file, names) = args.file_and_names();
    let setup = Setup::new(file, args.set.clone()).map_err(Refusal::Configuration)?;
    let drills =
        catalogue::choose(catalogue::all(&setup), &names, args.quick).map_err(Refusal::Usage)?;
    if args.list {
        print_list(&drills, args.json);
        return Ok(0);
    }
    for change in &setup.changes {
        print_error(&format!("pindrop drill: {change}"));
    }
    let folder = Folder::new(args.keep.as_deref())?;
    let begin = Clock::System.now();
    let (rows, interrupted) = play_all(&setup, signals, &drills, &folder, begin);
    let took = Clock::System.now().since(begin);
    folder.end();
    let code = interrupted.unwrap_or_else(|| code_of(&rows));
    if args.json {
        print_line(&table::json(&rows, &setup.changes, took, code == 0).to_string());
    } else {
        table::lines(&rows, took).iter().for_each(|line| print_line(line));
    }
    if code == EXIT_BROKEN && table::count(&rows, Verdict::Broken) == 0 {
        print_error("pindrop drill: too much was skipped: nothing is proved");
    }
    Ok(code)
}

/// The exit code of drills that were all played.
fn code_of(rows: &[Row]) -> u8 {
    let skipped = |row: &Row| row.verdict == Verdict::Skipped;
    if table::count(rows, Verdict::Broken) > 0 {
        EXIT_BROKEN
    } else if table::count(rows, Verdict::NotPlayed) > 0 {
        ExitCode::SystemRefused as u8
    } else if table::count(rows, Verdict::Passed) == 0
        || rows.iter().any(|row| row.name == catalogue::STEADY && skipped(row))
    {
        EXIT_BROKEN
    } else {
        0
    }
}

fn print_list(drills: &[Drill], as_json: bool) {
    if as_json {
        let list: Vec<_> = drills
            .iter()
            .map(|d| json!({"name": d.name, "promise": d.promise, "quick": d.quick}))
            .collect();
        print_line(&json!(list).to_string());
        return;
    }
    let width = drills.iter().map(|d| d.name.len()).max().unwrap_or(0);
    for drill in drills {
        print_line(&format!("{:width$}  {}", drill.name, drill.promise));
    }
}

/// Plays one drill after the other; the exit code when something ended that early.
fn play_all(
    setup: &Setup,
    signals: &Signals,
    drills: &[Drill],
    folder: &Folder,
    begin: MonoNs,
) -> (Vec<Row>, Option<u8>) {
    let mut rows = Vec::new();
    for (at, drill) in drills.iter().enumerate() {
        let elapsed = short(Clock::System.now().since(begin));
        print_error(&format!("[{}/{} {elapsed}] {}", at + 1, drills.len(), drill.name));
        let row = play_one(setup, signals, drill, folder);
        if row.verdict != Verdict::Passed {
            let why = row.reasons().join("; ");
            print_error(&format!("  {} {}: {why}", drill.name, row.verdict.label()));
        }
        let refused = row.facts.exit_code == Some(i32::from(ExitCode::Configuration as u8));
        rows.push(row);
        if let Some(signal) = signals.stop() {
            return (rows, Some(exit_code_of(signal)));
        }
        // What this machine cannot run, no other drill will run.
        if refused {
            return (rows, Some(ExitCode::Configuration as u8));
        }
    }
    (rows, None)
}

/// 128 + n, as a shell says of what a signal ended.
fn exit_code_of(signal: &str) -> u8 {
    match signal {
        "SIGINT" => 130,
        "SIGQUIT" => 131,
        _ => 143,
    }
}

/// How often a drill is played when it failed itself, or happened to prove nothing: neither says anything of the engine.
const PLAYS_MAX: usize = 3;

/// Plays a drill until it says something of the engine.
fn play_one(setup: &Setup, signals: &Signals, drill: &Drill, folder: &Folder) -> Row {
    let mut dir = folder.path.join(&drill.name);
    let mut plays = 1;
    loop {
        let (row, again) = play_once(setup, signals, drill, dir);
        if !again || plays == PLAYS_MAX {
            return folder.sort_out(row);
        }
        print_error(&format!("  {} is played again: {}", drill.name, row.reasons().join("; ")));
        plays += 1;
        dir = folder.path.join(format!("{}-{plays}", drill.name));
    }
}

/// Plays a drill once; whether it should be played again.
fn play_once(setup: &Setup, signals: &Signals, drill: &Drill, dir: PathBuf) -> (Row, bool) {
    let begin = Clock::System.now();
    let updates = script::updates_per_s(&drill.play);
    let (facts, halt) = match Stage::open(setup, signals, &dir, updates) {
        Ok(mut stage) => {
            let halt = script::play(&drill.play, &mut stage).err();
            (std::mem::take(&mut stage.facts), halt)
        }
        Err(halt) => (stage::Facts::default(), Some(halt)),
    };
    let took = Clock::System.now().since(begin);
    let again = matches!(halt, Some(stage::Halt::System(_) | stage::Halt::Unproved(_)));
    let row = Row { folder: Some(dir), ..Row::new(&drill.name, drill.promise, facts, halt, took) };
    (row, again)
}

/// Where the drills' folders are.
struct Folder {
    path: PathBuf,
    keeps_all: bool,
}

impl Folder {
    fn new(keep: Option<&Path>) -> Result<Self, Refusal> {
        let Some(dir) = keep else {
            let (id, ms) = (std::process::id(), Clock::System.utc().as_millis());
            let path = std::env::temp_dir().join(format!("pindrop-drill-{id}-{ms}"));
            DirBuilder::new().mode(0o700).create(&path).map_err(Refusal::System)?;
            return Ok(Self { path, keeps_all: false });
        };
        std::fs::create_dir_all(dir).map_err(Refusal::System)?;
        // What an earlier drill left would be taken for this engine's past.
        if std::fs::read_dir(dir).map_err(Refusal::System)?.next().is_some() {
            return Err(Refusal::Usage(format!(
                "--keep {}: the folder is not empty",
                dir.display()
            )));
        }
        // The processes are told of it as it is: it must not depend on where they are.
        Ok(Self { path: std::path::absolute(dir).map_err(Refusal::System)?, keeps_all: true })
    }

    /// Removes the folder of a drill that nobody will look into.
    fn sort_out(&self, mut row: Row) -> Row {
        let wanted = matches!(row.verdict, Verdict::Broken | Verdict::NotPlayed);
        if !self.keeps_all
            && !wanted
            && let Some(dir) = row.folder.take()
            && let Err(e) = std::fs::remove_dir_all(&dir)
        {
            print_error(&format!("pindrop drill: {}: {e}", dir.display()));
        }
        row
    }

    /// Removes what nobody needs any more; a folder with something in it stays.
    fn end(&self) {
        if !self.keeps_all {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::stage::{Facts, Halt};
    use super::*;

    #[track_caller]
    fn check_code(rows: Vec<(&str, Option<Halt>)>, code: u8) {
        let row =
            |(name, halt)| Row::new(name, "It holds.", Facts::default(), halt, Duration::ZERO);
        assert_eq!(code_of(&rows.into_iter().map(row).collect::<Vec<_>>()), code);
    }

    #[test]
    fn nothing_proved_is_no_success() {
        let skipped = || Some(Halt::Skipped("quiet".to_owned()));
        check_code(vec![("steady", None), ("gap", None)], 0);
        check_code(vec![("steady", None), ("gap", skipped())], 0);
        check_code(vec![("steady", skipped()), ("gap", None)], EXIT_BROKEN);
        check_code(vec![("gap", skipped())], EXIT_BROKEN);
        check_code(vec![("gap", Some(Halt::System("no room".to_owned())))], 71);
        check_code(vec![("gap", Some(Halt::Broken("late".to_owned())))], EXIT_BROKEN);
    }
}
