//! `pindrop`: the command line. Signals first, then words, then work.

use std::process::ExitCode;

use clap::Parser;

use pindrop::cli::{self, Cli};
use pindrop::runtime::signal::Signals;

fn main() -> ExitCode {
    // Commands that only look have nothing to drain: for them a signal means what it always means.
    if cli::only_looks(std::env::args_os().nth(1).as_deref()) {
        return ExitCode::from(cli::look(&Cli::parse()));
    }
    // Before anything else: a signal must find its handler at any moment, and the handlers must be there before the
    // first thread is.
    let signals = match Signals::register() {
        Ok(signals) => signals,
        Err(e) => return cli::refused("signal handlers", &e),
    };
    ExitCode::from(cli::run(&Cli::parse(), &signals))
}
