//! `pindrop`: the command line. Signals first, then words, then work.

use std::process::ExitCode;

use clap::Parser;

use pindrop::cli::{self, Cli};
use pindrop::runtime::signal::Signals;

fn main() -> ExitCode {
    // Before anything else: a signal must find its handler at any moment, and the handlers must be there before the
    // first thread is.
    let signals = match Signals::register() {
        Ok(signals) => signals,
        Err(e) => return cli::refused("signal handlers", &e),
    };
    ExitCode::from(cli::run(Cli::parse(), signals))
}
