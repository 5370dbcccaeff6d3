//! The state folder: one engine at a time, held by a lock that the kernel drops when the process ends, however it
//! ends.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::clock::UtcNs;

/// Most bytes of the lock file that are quoted in an error: a process id and a newline.
const LOCK_BYTES_MAX: u64 = 64;

/// The folder, locked for as long as this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// Why the folder cannot be used.
#[derive(Debug)]
pub enum StateError {
    /// Another engine holds it.
    Held {
        /// The folder.
        path: PathBuf,
        /// What the holder wrote: its process id.
        holder: String,
    },
    /// The system refused.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        during: &'static str,
        /// The system's word.
        source: std::io::Error,
    },
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, holder } => {
                write!(
                    f,
                    "state folder {}: held by another engine (process {holder})",
                    path.display()
                )
            }
            Self::Io { path, during, source } => {
                write!(f, "{}: {during}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for StateError {}

impl StateDir {
    /// Creates the folder if need be (mode 0700) and locks it.
    ///
    /// # Errors
    /// When another engine holds it, or the system refuses.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let io = |at: &Path, during| {
            let path = at.to_path_buf();
            move |source| StateError::Io { path, during, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io(path, "create"))?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io(&lock_path, "open"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // The process id is a help, not a condition.
                let _ = (&lock).take(LOCK_BYTES_MAX).read_to_string(&mut holder);
                return Err(StateError::Held {
                    path: path.to_path_buf(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(errno) => return Err(io(&lock_path, "lock")(errno.into())),
        }
        lock.set_len(0).map_err(io(&lock_path, "truncate"))?;
        lock.write_all(format!("{}\n", std::process::id()).as_bytes())
            .map_err(io(&lock_path, "write"))?;
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    /// A fresh folder below the system's temporary one.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn temporary(utc: UtcNs) -> Result<Self, StateError> {
        let name = format!("pindrop-{}-{}", std::process::id(), utc.as_millis());
        Self::open(&std::env::temp_dir().join(name))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the journal.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_engine_is_refused_and_told_by_whom() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let first = StateDir::open(dir.path()).expect("free");
        let second = StateDir::open(dir.path()).expect_err("held");
        assert!(
            second.to_string().contains(&format!("process {}", std::process::id())),
            "{second}"
        );
        drop(first);
        StateDir::open(dir.path()).expect("free again");
    }
}
