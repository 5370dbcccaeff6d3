//! `pindrop journal`: what was written, checked or printed.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::trading::journal::read::{VerifyReport, dump, verify};
use crate::trading::journal::segment::JournalError;

use super::{ExitCode, JournalArgs, JournalCommand, print_error, print_line};

/// Looks into a journal; the exit code.
pub fn run(args: &JournalArgs) -> u8 {
    let (path, result) = match &args.command {
        JournalCommand::Verify { path, json } => (path, run_verify(&folder(path), *json)),
        JournalCommand::Dump { path, json } => (path, run_dump(&folder(path), *json)),
    };
    result.unwrap_or_else(|e| {
        print_error(&format!("pindrop journal {}: {e}", path.display()));
        match e {
            JournalError::Corrupt { .. } => ExitCode::JournalCorrupt as u8,
            _ => ExitCode::JournalIo as u8,
        }
    })
}

/// A state folder's journal lies one folder below.
fn folder(path: &Path) -> PathBuf {
    let below = path.join("journal");
    if below.is_dir() { below } else { path.to_owned() }
}

fn run_verify(path: &Path, json: bool) -> Result<u8, JournalError> {
    let report = verify(path)?;
    print_line(&if json { verdict(&report).to_string() } else { report.to_string() });
    Ok(if report.is_ok() { 0 } else { ExitCode::JournalCorrupt as u8 })
}

fn verdict(report: &VerifyReport) -> serde_json::Value {
    let damages: Vec<_> = report
        .damages
        .iter()
        .map(|d| serde_json::json!({"path": d.path.display().to_string(), "offset": d.offset, "why": d.why}))
        .collect();
    serde_json::json!({
        "ok": report.is_ok(), "segments": report.segments, "records": report.records, "bytes": report.bytes,
        "torn_bytes": report.torn_bytes, "holes": report.holes,
        "first": report.first.map(|(n, utc)| serde_json::json!({"record": n, "utc": utc.to_string()})),
        "last": report.last.map(|(n, utc)| serde_json::json!({"record": n, "utc": utc.to_string()})),
        "damages": damages,
    })
}

fn run_dump(path: &Path, json: bool) -> Result<u8, JournalError> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    dump(path, &mut out, json)?;
    match out.flush() {
        // A reader that went away (`| head`) is not an error of ours.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(JournalError::Io { during: "dump", path: path.to_owned(), error })
        }
        _ => Ok(0),
    }
}
