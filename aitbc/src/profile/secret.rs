//! The API key: read from a file that nobody else can read, never shown, never an argument.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::Deserialize;

use super::ProfileError;

/// No API key is longer.
const MAX_BYTES: u64 = 4096;

/// No certificate with its chain and its private key is longer.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// A text that prints as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`, without the blanks around it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The text itself, for those who send or store it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it can be the value of a header.
    pub fn is_plain(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|b| b.is_ascii_graphic())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads a key file.
///
/// # Errors
/// Where it is not there, open to others, or holds no key.
pub fn read(path: &Path) -> Result<Secret, ProfileError> {
    let wrong = |why: String| ProfileError::KeyFile { path: path.to_owned(), why };
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    refuse_if_open_to_others(path, &file)?;
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| wrong(error.to_string()))?;
    let key = Secret::new(&text);
    match key.is_plain() && text.len() as u64 <= MAX_BYTES {
        true => Ok(key),
        false => Err(wrong("holds no API key".to_owned())),
    }
}

/// Reads a file with a certificate and its private key.
///
/// # Errors
/// Where it is not there, too large, or open to others.
pub fn read_certificate(path: &Path) -> Result<Vec<u8>, ProfileError> {
    let wrong = |why: String| ProfileError::CertificateFile { path: path.to_owned(), why };
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    refuse_if_open_to_others(path, &file)?;
    let mut pem = Vec::new();
    let read = file.take(MAX_PEM_BYTES + 1).read_to_end(&mut pem);
    read.map_err(|error| wrong(error.to_string()))?;
    if pem.len() as u64 > MAX_PEM_BYTES {
        return Err(wrong(format!("larger than {MAX_PEM_BYTES} bytes")));
    }
    Ok(pem)
}

/// A file that holds a key belongs to its owner alone. What is no regular file (a pipe of the
/// shell, say) has no mode that means anything.
///
/// # Errors
/// Where others can read or change it.
pub fn refuse_if_open_to_others(path: &Path, file: &File) -> Result<(), ProfileError> {
    let unreadable = |error: std::io::Error| ProfileError::KeyFile {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(ProfileError::OpenToOthers { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_shows_itself() {
        let key = Secret::new(" id.very-secret\n");
        assert_eq!(format!("{key:?}"), "***");
        assert_eq!(key.expose(), "id.very-secret");
        assert!(key.is_plain() && !Secret::new("a\nb").is_plain() && !Secret::new("").is_plain());
    }
}
