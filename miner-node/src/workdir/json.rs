//! JSON files of the node's own, of which there is always an old or a new one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::private;

/// The largest of our own files that is read back.
const LARGEST_FILE: u64 = 16 << 20;

/// Reads one of our own JSON files.
///
/// # Errors
/// Where it is missing, too large or something else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let file = File::open(path)?;
    if file.metadata()?.len() > LARGEST_FILE {
        return Err(io::Error::other("larger than any file of ours"));
    }
    Ok(serde_json::from_reader(io::BufReader::new(file))?)
}

/// Replaces a file by `value` as JSON, so that after a crash it is the old or the new one.
///
/// # Errors
/// Of the file system.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = private::file().create(true).truncate(true).open(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(value)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Has what was made or renamed in a directory survive a crash.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
