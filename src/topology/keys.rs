//! API keys: read from files that nobody else can read, never from argv, the environment or the configuration.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Largest key file: an RSA private key as PEM has some 3 kB; Ed25519 has 119 bytes.
const KEY_BYTES_MAX: u64 = 16 * 1024;

/// Why a key file cannot be used. Never contains the key.
#[derive(Debug)]
pub struct KeyError {
    path: PathBuf,
    why: String,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key file {}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for KeyError {}

/// Reads a key file: a regular file that only its owner can read; surrounding white space is taken off.
///
/// # Errors
/// When it is missing, readable by others, too large, empty, or not text.
pub fn read_key(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let error = |why: String| KeyError { path: path.to_path_buf(), why };
    let mut file = File::open(path).map_err(|e| error(e.to_string()))?;
    let meta = file.metadata().map_err(|e| error(e.to_string()))?;
    if !meta.is_file() {
        return Err(error("not a regular file".to_owned()));
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(error(format!("mode {mode:04o}: others can read it; run chmod 0600")));
    }
    if meta.len() > KEY_BYTES_MAX {
        return Err(error(format!("{} bytes, at most {KEY_BYTES_MAX}", meta.len())));
    }
    let mut text = Zeroizing::new(String::new());
    file.by_ref()
        .take(KEY_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|e| error(e.to_string()))?;
    if text.trim().is_empty() {
        return Err(error("empty".to_owned()));
    }
    Ok(Zeroizing::new(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("key");
        fs::write(&path, " abc\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        let error = read_key(&path).expect_err("too open").to_string();
        assert!(error.ends_with("mode 0644: others can read it; run chmod 0600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        assert_eq!(read_key(&path).expect("private").as_str(), "abc");
    }
}
