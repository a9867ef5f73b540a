//! What a finished run leaves behind: its output's hash, and the declared files out of `work/`.
//!
//! Everything here was written by a stranger's program that has ended: nothing changes any more,
//! but links, devices and paths that lead outside have to be expected.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;

use protocol::id::RelativePath;
use protocol::job::ArtifactRule;
use protocol::proof::ArtifactProof;
use protocol::{FailureCode, Sha256Hex};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use sha2::{Digest as _, Sha256};

use crate::runners::Refusal;
use crate::workdir::JobDir;

/// One MiB.
const MIB: u64 = 1 << 20;

/// The longest output that a proof carries in itself, in bytes.
const LONGEST_INLINE: u64 = 256 << 10;

/// The longest that it may be as JSON, where a control character takes six bytes: coordinators take
/// proofs of little more than a mebibyte.
const LONGEST_INLINE_JSON: usize = 512 << 10;

/// Under this name a job can declare its standard output as an artifact: the way to get output that
/// is no short text.
const OUTPUT_NAME: &str = "out.txt";

/// Hashes the declared files and links them into `output/`.
///
/// # Errors
/// [`FailureCode::Output`] where one is missing, no plain file, or all are larger than allowed.
pub fn collect(
    rules: &[ArtifactRule],
    dir: &JobDir,
    most_bytes: u64,
) -> Result<Vec<ArtifactProof>, Refusal> {
    let mut room = most_bytes;
    let mut artifacts: Vec<ArtifactProof> = Vec::new();
    for rule in rules {
        if artifacts.iter().any(|artifact| artifact.path == rule.path) {
            continue;
        }
        if rule.path.as_str() == OUTPUT_NAME {
            offer_output(dir).map_err(|why| refusal(&rule.path, &why))?;
        }
        let own = rule.max_mb.map_or(u64::MAX, |mb| u64::from(mb) * MIB);
        let (sha256, bytes) = hash_beneath(&dir.work(), &rule.path, room.min(own))
            .map_err(|why| refusal(&rule.path, &why))?;
        room -= bytes;
        publish(dir, &rule.path).map_err(|why| refusal(&rule.path, &why))?;
        artifacts.push(ArtifactProof { path: rule.path.clone(), sha256, bytes });
    }
    Ok(artifacts)
}

fn refusal(path: &RelativePath, why: &io::Error) -> Refusal {
    let why = match why.kind() {
        io::ErrorKind::NotFound => "is missing".to_owned(),
        io::ErrorKind::FileTooLarge => "is larger than allowed".to_owned(),
        _ => format!("cannot be used: {why}"),
    };
    Refusal::new(FailureCode::Output, format!("artifact {path} {why}"))
}

fn hash_beneath(directory: &Path, path: &RelativePath, most: u64) -> io::Result<(Sha256Hex, u64)> {
    let file = File::from(open_beneath(directory, path)?);
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    if found.len() > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    hash(file.take(most))
}

/// Opens without following any link and without leaving `directory`; a pipe does not block.
fn open_beneath(directory: &Path, path: &RelativePath) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let directory = File::open(directory)?;
    Ok(openat2(&directory, path.as_str(), flags, Mode::empty(), resolve)?)
}

/// Puts the standard output where artifacts are looked for, unless the program made such a file.
fn offer_output(dir: &JobDir) -> io::Result<()> {
    link(&dir.out_txt(), &dir.work().join(OUTPUT_NAME))
}

fn publish(dir: &JobDir, path: &RelativePath) -> io::Result<()> {
    let target = dir.output().join(path.as_str());
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    link(&dir.work().join(path.as_str()), &target)
}

/// Gives a file a second name; that it has it already, from before a crash, is fine.
fn link(file: &Path, name: &Path) -> io::Result<()> {
    match fs::hard_link(file, name) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The hash and length of everything that `reader` gives.
///
/// # Errors
/// Of the reader.
pub fn hash(mut reader: impl Read) -> io::Result<(Sha256Hex, u64)> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        let length = reader.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        digest.update(&buffer[..length]);
        bytes += length as u64;
    }
    Ok((Sha256Hex::from_bytes(digest.finalize().into()), bytes))
}

/// The hash of the file at `path`.
///
/// # Errors
/// Of the file system.
pub fn hash_file(path: &Path) -> io::Result<Sha256Hex> {
    Ok(hash(File::open(path)?)?.0)
}

/// The file at `path` as text, where it is short text that fits into a proof.
pub fn inline_text(path: &Path) -> Option<String> {
    if path.metadata().ok()?.len() > LONGEST_INLINE {
        return None;
    }
    let text = String::from_utf8(fs::read(path).ok()?).ok()?;
    // Databases refuse U+0000 in text, and no text has it.
    let fits = || serde_json::to_vec(&text).is_ok_and(|json| json.len() <= LONGEST_INLINE_JSON);
    (!text.contains('\0') && fits()).then_some(text)
}

/// The last `most` bytes of the file at `path`, as text.
pub fn tail(path: &Path, most: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(most);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    printable(&read().unwrap_or_default())
}

/// Bytes of a program's output as text that every database takes.
pub fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests;
