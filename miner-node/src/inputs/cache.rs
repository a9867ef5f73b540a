//! Input files that were fetched before, so that a job's file need not come over the network again.
//!
//! What is kept belongs to one client: nobody gets, by its hash alone, what another client's job had
//! brought. A job gets a copy, whose hash is computed anew, and never the kept file itself: whatever
//! it could do to its own, the next one's stays as it was.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use protocol::job::InputFile;
use protocol::{Name, Sha256Hex};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex as Turnstile, OwnedMutexGuard};

use crate::private::{self, NotPrivate};

/// What the name of a file ends with that is still being written.
const UNFINISHED: &str = ".part";

/// The kept files.
#[derive(Debug)]
pub struct InputCache {
    directory: PathBuf,
    most_bytes: u64,
    /// Who is fetching what.
    turns: Mutex<HashMap<String, Weak<Turnstile<()>>>>,
}

/// The right to fetch a file; whoever wants the same one waits until it is given back.
pub struct Turn {
    _guard: OwnedMutexGuard<()>,
}

impl InputCache {
    /// The files in `directory`, which are made fewer than `most_mb` MiB together; 0 keeps none.
    ///
    /// # Errors
    /// Where the directory cannot be made, or others can change it.
    pub fn open(directory: PathBuf, most_mb: u32) -> Result<Self, NotPrivate> {
        private::directory(&directory)?;
        let cache =
            Self { directory, most_bytes: u64::from(most_mb) << 20, turns: Mutex::default() };
        cache
            .clean()
            .and_then(|()| cache.make_room(0))
            .map_err(|source| NotPrivate::Io { path: cache.directory.clone(), source })?;
        Ok(cache)
    }

    /// Under which name `client`'s `file` is kept.
    pub fn key(client: &Name, file: &InputFile) -> String {
        let source = file.url.as_deref().unwrap_or_default();
        Sha256Hex::of(format!("{client}\0{}\0{source}", file.sha256).as_bytes()).to_string()
    }

    /// Waits until nobody else fetches the file of that name.
    pub async fn turn(&self, key: &str) -> Turn {
        let turnstile = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            turns.get(key).and_then(Weak::upgrade).unwrap_or_else(|| {
                let turnstile = Arc::new(Turnstile::new(()));
                turns.insert(key.to_owned(), Arc::downgrade(&turnstile));
                turnstile
            })
        };
        Turn { _guard: turnstile.lock_owned().await }
    }

    /// Copies the kept file to `target` and returns its size; `None` where there is none, or it is
    /// not any more what it was.
    ///
    /// # Errors
    /// Of the file system, at `target`.
    pub fn take(&self, key: &str, sha256: Sha256Hex, target: &Path) -> io::Result<Option<u64>> {
        let path = self.directory.join(key);
        let Ok(mut kept) = File::open(&path) else { return Ok(None) };
        let mut copy = File::create(target)?;
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        let mut bytes = 0;
        while let length @ 1.. = kept.read(&mut buffer)? {
            digest.update(&buffer[..length]);
            copy.write_all(&buffer[..length])?;
            bytes += length as u64;
        }
        if Sha256Hex::from_bytes(digest.finalize().into()) != sha256 {
            fs::remove_file(&path)?;
            return Ok(None);
        }
        copy.sync_all()?;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        futimens(&kept, &Timestamps { last_access: now, last_modification: now })?;
        Ok(Some(bytes))
    }

    /// Keeps a copy of `file`, of `bytes` bytes, for whoever needs it next; what was not needed for
    /// longest makes room for it.
    ///
    /// # Errors
    /// Of the file system.
    pub fn keep(&self, key: &str, file: &Path, bytes: u64) -> io::Result<()> {
        if bytes > self.most_bytes {
            return Ok(());
        }
        self.make_room(bytes)?;
        let unfinished = self.directory.join(format!("{key}{UNFINISHED}"));
        let mut copy = private::file().create(true).truncate(true).open(&unfinished)?;
        io::copy(&mut File::open(file)?, &mut copy)?;
        // What a power cut leaves is found out by its hash.
        fs::rename(unfinished, self.directory.join(key))
    }

    /// Removes what was begun in an earlier life: nobody will finish it.
    fn clean(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut kept: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            // Gone meanwhile, by another job's need of room.
            let Ok(found) = entry.metadata() else { continue };
            kept.push((found.modified()?, found.len(), entry.path()));
        }
        kept.sort_unstable();
        let mut total: u64 = kept.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in kept {
            if total + bytes > self.most_bytes {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => total -= length,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn cache(root: &TempDir, most_mb: u32) -> InputCache {
        InputCache::open(root.path().join("inputs"), most_mb).unwrap()
    }

    fn put(root: &TempDir, cache: &InputCache, key: &str, content: &[u8]) -> Sha256Hex {
        let file = root.path().join("fetched");
        fs::write(&file, content).unwrap();
        cache.keep(key, &file, content.len() as u64).unwrap();
        Sha256Hex::of(content)
    }

    fn take(root: &TempDir, cache: &InputCache, key: &str, sha256: Sha256Hex) -> Option<Vec<u8>> {
        let target = root.path().join("target");
        let bytes = cache.take(key, sha256, &target).unwrap()?;
        let content = fs::read(target).unwrap();
        assert_eq!(bytes, content.len() as u64);
        Some(content)
    }

    /// As if it had been used so many seconds after 1970.
    fn used(root: &TempDir, key: &str, secs: i64) {
        let file = File::open(root.path().join("inputs").join(key)).unwrap();
        let then = Timespec { tv_sec: secs, tv_nsec: 0 };
        futimens(&file, &Timestamps { last_access: then, last_modification: then }).unwrap();
    }

    #[test]
    fn what_was_kept_is_copied_and_stays_what_it_is() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(&root, 1);
        assert_eq!(take(&root, &cache, "a", Sha256Hex::of(b"x")), None);
        let sha256 = put(&root, &cache, "a", b"content");
        assert_eq!(take(&root, &cache, "a", sha256).unwrap(), b"content");
        // A job that could write to its copy would not reach the kept file.
        fs::write(root.path().join("target"), "spoilt").unwrap();
        assert_eq!(take(&root, &cache, "a", sha256).unwrap(), b"content");
    }

    #[test]
    fn what_is_not_what_it_was_is_thrown_away() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(&root, 1);
        let sha256 = put(&root, &cache, "a", b"content");
        fs::write(root.path().join("inputs/a"), "c0ntent").unwrap();
        assert_eq!(take(&root, &cache, "a", sha256), None);
        assert!(!root.path().join("inputs/a").exists());
    }

    #[test]
    fn what_was_not_needed_for_longest_makes_room() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(&root, 1);
        let content = vec![7; 400 << 10];
        let sha256 = put(&root, &cache, "a", &content);
        put(&root, &cache, "b", &content);
        used(&root, "a", 10);
        used(&root, "b", 20);
        assert!(take(&root, &cache, "a", sha256).is_some());
        put(&root, &cache, "c", &content);
        let here = ["a", "b", "c"].map(|key| root.path().join("inputs").join(key).exists());
        assert_eq!(here, [true, false, true]);
        put(&root, &cache, "larger than everything", &vec![7; 2 << 20]);
        assert!(take(&root, &cache, "a", sha256).is_some());
    }

    #[test]
    fn a_start_cleans_up_and_obeys_a_lower_limit() {
        let root = tempfile::tempdir().unwrap();
        let sha256 = put(&root, &cache(&root, 1), "a", b"content");
        fs::write(root.path().join("inputs/b.part"), "cut off").unwrap();
        assert!(take(&root, &cache(&root, 1), "a", sha256).is_some());
        assert!(!root.path().join("inputs/b.part").exists());
        assert_eq!(take(&root, &cache(&root, 0), "a", sha256), None);
    }

    #[test]
    fn an_empty_file_leaves_alone_what_others_are_writing() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(&root, 1);
        let theirs = root.path().join("inputs/b.part");
        fs::write(&theirs, "half").unwrap();
        put(&root, &cache, "a", b"");
        assert_eq!(fs::read(theirs).unwrap(), b"half");
    }

    #[test]
    fn names_tell_clients_and_places_apart() {
        let file = |url: Option<&str>| InputFile {
            name: "x".parse().unwrap(),
            sha256: Sha256Hex::of(b"x"),
            url: url.map(str::to_owned),
            size_bytes: None,
        };
        let (a, b): (Name, Name) = ("a".parse().unwrap(), "b".parse().unwrap());
        let keys = [
            InputCache::key(&a, &file(None)),
            InputCache::key(&b, &file(None)),
            InputCache::key(&a, &file(Some("https://x/?secret=1"))),
            InputCache::key(&a, &file(Some("https://x/?secret=2"))),
        ];
        let mut different = keys.to_vec();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), keys.len());
    }

    #[tokio::test]
    async fn one_fetches_and_the_others_wait() {
        use futures_util::FutureExt as _;
        let root = tempfile::tempdir().unwrap();
        let cache = cache(&root, 1);
        let first = cache.turn("a").await;
        let mut second = Box::pin(cache.turn("a"));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(cache.turn("b").now_or_never().is_some());
        drop(first);
        second.await;
    }
}
