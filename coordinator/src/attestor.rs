//! The key with which the coordinator attests receipts: a file in the data directory, made once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use protocol::signing;

/// Its name in the data directory: 64 hex digits, readable by the owner alone.
pub const FILE: &str = "receipt.key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It can neither be read nor made.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is no key.
    #[error("{0}: not a key of 64 hex digits")]
    Malformed(PathBuf),
    /// Others can read it.
    #[error("{0}: readable by others, run `chmod 600` on it")]
    Exposed(PathBuf),
}

/// Reads the key of `data_dir`, or makes one of `random` bytes if there is none.
///
/// # Errors
/// Where it cannot be used; a key that is there is never replaced.
pub fn open(data_dir: &Path, random: [u8; 32]) -> Result<SigningKey, KeyError> {
    let path = data_dir.join(FILE);
    let failed = |error| KeyError::Io { path: path.clone(), error };
    match make(data_dir, &path, random) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let mode = fs::metadata(&path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed(path));
    }
    let text = fs::read_to_string(&path).map_err(failed)?;
    signing::parse_secret(&text).ok_or(KeyError::Malformed(path))
}

/// Writes a whole key or none, and never over another process's: a link to a finished file.
fn make(data_dir: &Path, path: &Path, random: [u8; 32]) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let draft = data_dir.join(format!(".{FILE}.{}", std::process::id()));
    let written = write(&draft, random).and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    written?;
    File::open(data_dir)?.sync_all()
}

fn write(draft: &Path, random: [u8; 32]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
    writeln!(file, "{}", hex::encode(random))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), [1; 32]).unwrap();
        let second = open(dir.path(), [2; 32]).unwrap();
        assert_eq!(first.to_bytes(), [1; 32]);
        assert_eq!(second.to_bytes(), [1; 32]);
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), [1; 32]).unwrap();
        let path = dir.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(open(dir.path(), [1; 32]), Err(KeyError::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "CHANGE_ME").unwrap();
        assert!(matches!(open(dir.path(), [1; 32]), Err(KeyError::Malformed(_))));
        assert!(matches!(open(&dir.path().join("none"), [1; 32]), Err(KeyError::Io { .. })));
    }
}
