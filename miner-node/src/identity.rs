//! Who the node is: its stable label and the Ed25519 key that signs its receipts, both kept in the
//! state directory. What is signed with it lives in `receipts`.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use protocol::Name;
use protocol::signing;
use rand::CryptoRng;
use rustix::fs::FlockOperation;

use crate::config::Config;
use crate::private::{self, NotPrivate};

/// The signing key: 64 hex digits.
const KEY_FILE: &str = "signing.key";

/// The generated label.
const ID_FILE: &str = "node_id";

/// Held while a node runs, so that no two share an identity.
const LOCK_FILE: &str = "identity.lock";

/// Neither file is longer.
const MAX_BYTES: u64 = 256;

/// Who the node is.
#[derive(Clone)]
pub struct Identity {
    /// Its stable label.
    pub node_id: Name,
    /// The key that signs its receipts.
    pub key: SigningKey,
}

/// Why the node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file or directory cannot be used.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others can change the directory.
    #[error(transparent)]
    NotPrivate(#[from] NotPrivate),
    /// Others can read the key.
    #[error("{} can be read by others (mode {mode:03o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{} does not hold {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The file is already there.
    #[error("{} exists; it is not overwritten, since receipts may depend on it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Another node uses this state directory.
    #[error("another node is running with {}; give each its own WORK_DIR", path.display())]
    InUse {
        /// The state directory.
        path: PathBuf,
    },
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("node_id", &self.node_id)
            .field("pubkey", &self.pubkey())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the identity, making at first run what is not there yet.
    ///
    /// # Errors
    /// Files that cannot be used, or a key that others can read.
    pub fn load_or_create(
        config: &Config,
        hostname: &str,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, IdentityError> {
        let directory = config.state_dir();
        private::directory(directory)?;
        let key = load_or_create_key(&directory.join(KEY_FILE), rng)?;
        let node_id = match &config.node_id {
            Some(id) => id.clone(),
            None => load_or_create_id(&directory.join(ID_FILE), hostname, rng)?,
        };
        Ok(Self { node_id, key })
    }

    /// The public key, as capabilities and receipts state it.
    pub fn pubkey(&self) -> String {
        signing::key_id(&self.key.verifying_key())
    }
}

/// The label that the node has without making one: from the configuration or an earlier run.
pub fn known_node_id(config: &Config) -> Option<Name> {
    config.node_id.clone().or_else(|| read_id(&config.state_dir().join(ID_FILE)).ok())
}

/// Where the signing key of a configuration is.
pub fn key_path(config: &Config) -> PathBuf {
    config.state_dir().join(KEY_FILE)
}

/// Held while a node runs; the lock goes with the process, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Claims the state directory for this process.
///
/// # Errors
/// Another node has it, or the directory cannot be used.
pub fn lock(config: &Config) -> Result<StateLock, IdentityError> {
    let directory = config.state_dir();
    private::directory(directory)?;
    let path = directory.join(LOCK_FILE);
    let file = private::file().create(true).truncate(false).open(&path).map_err(at(&path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(StateLock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(IdentityError::InUse { path: directory.to_owned() })
        }
        Err(error) => Err(IdentityError::Io { path, error: error.into() }),
    }
}

/// Makes a new key file and says what its public key is.
///
/// # Errors
/// The file exists or cannot be written.
pub fn generate_key(path: &Path, rng: &mut impl CryptoRng) -> Result<SigningKey, IdentityError> {
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        private::directory(directory)?;
    }
    let key = SigningKey::generate(rng);
    let text = format!("{}\n", hex::encode(key.to_bytes()));
    match create(path, &text) {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(IdentityError::Exists { path: path.to_owned() })
        }
        Err(error) => Err(IdentityError::Io { path: path.to_owned(), error }),
    }
}

/// Reads a key file.
///
/// # Errors
/// It cannot be read, others can read it, or it holds no key.
pub fn read_key(path: &Path) -> Result<SigningKey, IdentityError> {
    let file = File::open(path).map_err(at(path))?;
    let mode = file.metadata().map_err(at(path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    let text = read_text(path, file)?;
    signing::parse_secret(&text).ok_or_else(|| IdentityError::Content {
        path: path.to_owned(),
        expected: "a signing key of 64 hex digits",
    })
}

fn load_or_create_key(path: &Path, rng: &mut impl CryptoRng) -> Result<SigningKey, IdentityError> {
    if !path.exists() {
        match generate_key(path, rng) {
            // Another process was faster: its key counts.
            Err(IdentityError::Exists { .. }) => {}
            made => return made,
        }
    }
    read_key(path)
}

fn load_or_create_id(
    path: &Path,
    hostname: &str,
    rng: &mut impl CryptoRng,
) -> Result<Name, IdentityError> {
    if !path.exists() {
        let mut tail = [0; 2];
        rng.fill_bytes(&mut tail);
        let text = format!("{}-{}\n", label(hostname), hex::encode(tail));
        match create(path, &text) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(IdentityError::Io { path: path.to_owned(), error });
            }
            _ => {}
        }
    }
    read_id(path)
}

/// What of a host name may stand in a label.
fn label(hostname: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let label: String = hostname.chars().filter(plain).take(64).collect();
    if label.is_empty() { "node".to_owned() } else { label }
}

fn read_id(path: &Path) -> Result<Name, IdentityError> {
    let text = read_text(path, File::open(path).map_err(at(path))?)?;
    text.trim()
        .parse()
        .map_err(|_| IdentityError::Content { path: path.to_owned(), expected: "a node's label" })
}

fn read_text(path: &Path, file: File) -> Result<String, IdentityError> {
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(at(path))?;
    Ok(text)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |error| IdentityError::Io { path, error }
}

/// Writes a new file so that it is there whole or not at all, and never replaces one.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    // What an earlier process of this number left behind.
    let _ = fs::remove_file(&temporary);
    let linked = write_private(&temporary, text)
        // A rename would replace a file that another process has just made.
        .and_then(|()| fs::hard_link(&temporary, path));
    fs::remove_file(&temporary).ok();
    linked?;
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = private::file().create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use tempfile::TempDir;

    use super::*;

    fn config(directory: &TempDir) -> Config {
        let mut config = Config::default();
        config.workspace.root = directory.path().join("deep/state");
        config
    }

    fn identity(config: &Config, seed: u64) -> Result<Identity, IdentityError> {
        Identity::load_or_create(config, "rig7", &mut StdRng::seed_from_u64(seed))
    }

    #[test]
    fn stable_over_restarts() {
        let directory = TempDir::new().unwrap();
        let config = config(&directory);
        assert_eq!(known_node_id(&config), None);
        let first = identity(&config, 1).unwrap();
        let second = identity(&config, 2).unwrap();
        assert_eq!((&first.node_id, first.pubkey()), (&second.node_id, second.pubkey()));
        assert_eq!(known_node_id(&config), Some(first.node_id.clone()));
        let (host, tail) = first.node_id.as_str().rsplit_once('-').unwrap();
        assert_eq!((host, tail.len()), ("rig7", 4));
        let mode = fs::metadata(key_path(&config)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Nothing but the two files: no temporary one is left.
        assert_eq!(fs::read_dir(config.state_dir()).unwrap().count(), 2);
    }

    #[test]
    fn a_configured_label_wins() {
        let directory = TempDir::new().unwrap();
        let mut config = config(&directory);
        config.node_id = Some("mine".parse().unwrap());
        assert_eq!(identity(&config, 1).unwrap().node_id.as_str(), "mine");
    }

    #[test]
    fn an_exposed_or_broken_key_is_refused() {
        let directory = TempDir::new().unwrap();
        let config = config(&directory);
        identity(&config, 1).unwrap();
        let path = key_path(&config);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(identity(&config, 1), Err(IdentityError::Exposed { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(matches!(identity(&config, 1), Err(IdentityError::Content { .. })));
    }

    #[test]
    fn keys_are_never_overwritten_nor_shown() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("key");
        let mut rng = StdRng::seed_from_u64(1);
        let key = generate_key(&path, &mut rng).unwrap();
        assert!(matches!(generate_key(&path, &mut rng), Err(IdentityError::Exists { .. })));
        assert_eq!(read_key(&path).unwrap().to_bytes(), key.to_bytes());
        let shown = format!("{:?}", Identity { node_id: "a".parse().unwrap(), key: key.clone() });
        assert!(!shown.contains(&hex::encode(key.to_bytes())));
    }

    #[test]
    fn nothing_is_written_where_others_can_write() {
        let directory = TempDir::new().unwrap();
        let mut config = Config::default();
        config.workspace.root = directory.path().to_owned();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(lock(&config), Err(IdentityError::NotPrivate(_))));
        assert!(matches!(identity(&config, 1), Err(IdentityError::NotPrivate(_))));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_node_per_state_directory() {
        let directory = TempDir::new().unwrap();
        let config = config(&directory);
        let held = lock(&config).unwrap();
        assert!(matches!(lock(&config), Err(IdentityError::InUse { .. })));
        drop(held);
        assert!(lock(&config).is_ok());
    }

    #[test]
    fn odd_host_names_make_plain_labels() {
        assert_eq!(label("büro/rechner 7"), "brorechner7");
        assert_eq!(label(""), "node");
    }
}
