//! Files: the artifacts that jobs leave behind and the inputs that clients upload.
//!
//! The bytes live in an object store under names of our own, which never come from outside; rows
//! say whose they are. A file counts once its row is committed; until then it goes away by itself,
//! or, where the process died, when it has become old.

pub mod place;
pub mod routes;
pub mod sending;
pub mod store;
mod tidy;
pub mod upload;

use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::body::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, stream};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, WriteMultipart,
};
use protocol::{ErrorCode, Sha256Hex};
use sha2::{Digest as _, Sha256};
pub use tidy::SHARDS;
use tracing::Instrument as _;
use ulid::Ulid;

use crate::app::random_u128;
use crate::db::{DbError, Tx};
use crate::error::ApiError;

/// How much of an upload is held in memory before it goes to the store.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Where files are until a row names them.
const INCOMING: &str = "incoming";

/// How many files are removed at once: a bucket takes its time for each.
const REMOVALS: usize = 8;

/// A mebibyte, in bytes.
const MIB: u64 = 1024 * 1024;

/// Where the bytes of files are kept.
#[derive(Clone)]
pub struct Artifacts {
    objects: Arc<dyn ObjectStore>,
    /// How much of an upload is held in memory before it goes to the store, in bytes.
    chunk_bytes: usize,
    /// The directory, where it is one.
    dir: Option<PathBuf>,
}

/// Without what the store knows: its keys are among it.
impl fmt::Debug for Artifacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifacts").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// What kind of file it is: the first part of its name in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Left behind by a job.
    Artifact,
    /// Uploaded by a client.
    Input,
}

impl Kind {
    const fn area(self) -> &'static str {
        match self {
            Self::Artifact => "artifacts",
            Self::Input => "inputs",
        }
    }
}

/// A file in the store that no row names yet: dropped before [`commit`], it is removed.
#[derive(Debug)]
pub struct Unclaimed {
    artifacts: Artifacts,
    /// Where it is.
    at: Option<Path>,
    /// Where it is to be once a row names it.
    location: Path,
    /// Its hash.
    pub sha256: Sha256Hex,
    /// Its size.
    pub size_bytes: i64,
}

impl Artifacts {
    /// A directory, made if it is not there, for this user alone.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn local(dir: &FilePath) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // A miner deletes its copy once its proof was accepted: ours must survive a power cut.
        let files = LocalFileSystem::new_with_prefix(dir).map_err(io::Error::other)?;
        let objects = Arc::new(files.with_fsync(true));
        Ok(Self { objects, chunk_bytes: CHUNK_BYTES, dir: Some(dir.to_owned()) })
    }

    /// This process's memory.
    pub fn memory() -> Self {
        Self { objects: Arc::new(InMemory::new()), chunk_bytes: CHUNK_BYTES, dir: None }
    }

    /// Streams `chunks` into the store, hashing on the way.
    ///
    /// # Errors
    /// `PAYLOAD_TOO_LARGE` beyond `max_bytes`, what `chunks` says, or `INTERNAL` where the store
    /// fails. Nothing is kept then.
    pub async fn put(
        &self,
        kind: Kind,
        max_bytes: u64,
        mut chunks: impl Stream<Item = Result<Bytes, ApiError>> + Unpin,
    ) -> Result<Unclaimed, ApiError> {
        let (at, location) = new_locations(kind);
        let upload = self.objects.put_multipart(&at).await.map_err(store_failed)?;
        let writer = WriteMultipart::new_with_chunk_size(upload, self.chunk_bytes);
        let mut writing = Writing(Some(writer));
        let mut hash = Sha256::new();
        let mut size: u64 = 0;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            size = size.saturating_add(chunk.len() as u64);
            if size > max_bytes {
                return Err(too_large(max_bytes));
            }
            hash.update(&chunk);
            if let Some(writer) = &mut writing.0 {
                writer.wait_for_capacity(1).await.map_err(store_failed)?;
                writer.write(&chunk);
            }
        }
        if let Some(writer) = writing.0.take() {
            writer.finish().await.map_err(store_failed)?;
        }
        Ok(Unclaimed {
            artifacts: self.clone(),
            at: Some(at),
            location,
            sha256: Sha256Hex::from_bytes(hash.finalize().into()),
            size_bytes: i64::try_from(size).unwrap_or(i64::MAX),
        })
    }

    /// Streams a file, or a range of its bytes, out of the store.
    ///
    /// # Errors
    /// `INTERNAL` where it is not there although a row says so, or the store fails.
    pub async fn open(
        &self,
        location: &str,
        range: Option<Range<u64>>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, ApiError> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let path = Path::from(location);
        let found = self.objects.get_opts(&path, options).await.map_err(store_failed)?;
        Ok(found.into_stream())
    }

    /// Removes files whose rows are gone, some at a time. What cannot be removed is logged and left.
    pub async fn remove(&self, locations: &[String]) {
        let removing = stream::iter(locations.to_vec()).map(|location| self.remove_one(location));
        removing.buffer_unordered(REMOVALS).collect::<()>().await;
    }

    async fn remove_one(&self, location: String) {
        match self.objects.delete(&Path::from(location.as_str())).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => tracing::warn!(%error, %location, "a file could not be removed"),
        }
    }
}

impl Unclaimed {
    /// Its name in the store, once it is placed.
    pub fn location(&self) -> &str {
        self.location.as_ref()
    }

    /// Moves it to where its row says: to be called before the transaction of that row begins, since
    /// a bucket may take its time.
    ///
    /// # Errors
    /// `INTERNAL` where the store fails.
    pub async fn place(&mut self) -> Result<(), ApiError> {
        if let Some(at) = &self.at {
            let objects = &self.artifacts.objects;
            objects.rename(at, &self.location).await.map_err(store_failed)?;
            self.at = Some(self.location.clone());
        }
        Ok(())
    }

    /// Leaves it where it is; returns where.
    fn claim(mut self) -> Option<Path> {
        self.at.take()
    }

    /// Refuses it unless it has the hash that was announced.
    ///
    /// # Errors
    /// `HASH_MISMATCH`.
    pub fn expect(&self, announced: Option<Sha256Hex>) -> Result<(), ApiError> {
        match announced {
            Some(expected) if expected != self.sha256 => {
                let message = "the bytes that arrived do not have the announced SHA-256";
                Err(ApiError::new(ErrorCode::HashMismatch, message)
                    .with("expected", expected.to_string())
                    .with("actual", self.sha256.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// An upload that the store shall forget unless it is finished.
struct Writing(Option<WriteMultipart>);

impl Drop for Writing {
    fn drop(&mut self) {
        let Some(writer) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = writer.abort().await {
                    tracing::warn!(%error, "an unfinished upload could not be removed");
                }
            });
        }
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let Some(at) = self.at.take() else { return };
        let artifacts = self.artifacts.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { artifacts.remove(&[at.into()]).await });
        }
    }
}

/// Commits the rows that name these files, which then stay.
///
/// Call it from a task that outlives its request: a caller that hangs up shall not leave open
/// whether it was committed.
///
/// # Errors
/// Where it was not committed, or nobody knows. The files go where it certainly was not, and stay
/// where it may have been: a file without a row costs space, a row without a file a result.
pub async fn commit(tx: Tx, artifacts: &Artifacts, files: Vec<Unclaimed>) -> Result<(), DbError> {
    // From here on nothing that drops this future takes them away.
    let claimed = files.into_iter().filter_map(Unclaimed::claim);
    let locations: Vec<String> = claimed.map(String::from).collect();
    let committed = tx.commit().await;
    match &committed {
        Ok(()) => {}
        Err(DbError::Conflict(_) | DbError::Data(_)) => artifacts.remove(&locations).await,
        Err(error) => {
            tracing::warn!(%error, ?locations, "files are left that perhaps no row names")
        }
    }
    committed
}

/// Runs `work` to its end, whether or not the one who asked for it still waits.
///
/// # Errors
/// What `work` says, or `INTERNAL` where it panicked.
async fn outliving<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work.in_current_span()).await.unwrap_or_else(|error| {
        tracing::error!(%error, "files could not be recorded");
        Err(ApiError::internal())
    })
}

/// Where a new file arrives, and where it is to be.
fn new_locations(kind: Kind) -> (Path, Path) {
    let area = kind.area();
    let id = Ulid(random_u128()).to_string();
    // Two levels, so that no directory gets a million entries.
    let location = format!("{area}/{}/{id}", &id[id.len() - 2..]);
    (Path::from(format!("{INCOMING}/{id}")), Path::from(location))
}

/// `PAYLOAD_TOO_LARGE`, saying what would have been taken.
pub fn too_large(max_bytes: u64) -> ApiError {
    ApiError::new(ErrorCode::PayloadTooLarge, format!("at most {max_bytes} bytes are taken here"))
        .with("max_bytes", max_bytes)
}

fn store_failed(error: StoreError) -> ApiError {
    tracing::error!(%error, "the artifact store failed");
    ApiError::internal()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(parts: &[&'static str]) -> impl Stream<Item = Result<Bytes, ApiError>> + Unpin {
        let parts: Vec<_> =
            parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
        stream::iter(parts)
    }

    fn files(dir: &FilePath) -> usize {
        let entries = std::fs::read_dir(dir).map(|entries| entries.flatten().collect::<Vec<_>>());
        let count = |path: &FilePath| if path.is_dir() { files(path) } else { 1 };
        entries.unwrap_or_default().iter().map(|entry| count(&entry.path())).sum()
    }

    /// Removal is spawned: waits until nothing else is left to run, without a clock.
    async fn until_gone(dir: &FilePath) {
        while files(dir) > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_goes_in_comes_out_and_goes_away_with_its_row() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::local(dir.path()).unwrap();
        let mut stored =
            artifacts.put(Kind::Artifact, 12, chunks(&["hello ", "world\n"])).await.unwrap();
        assert_eq!(stored.sha256, Sha256Hex::of(b"hello world\n"));
        assert_eq!(stored.size_bytes, 12);
        let location = stored.location().to_owned();
        stored.place().await.unwrap();
        assert_eq!(stored.claim().map(String::from), Some(location.clone()));
        let out: Vec<_> = artifacts.open(&location, None).await.unwrap().collect().await;
        let out: Vec<u8> = out.into_iter().flat_map(|chunk| chunk.unwrap().to_vec()).collect();
        assert_eq!(out, b"hello world\n");
        let part: Vec<_> = artifacts.open(&location, Some(6..11)).await.unwrap().collect().await;
        let part: Vec<u8> = part.into_iter().flat_map(|chunk| chunk.unwrap().to_vec()).collect();
        assert_eq!(part, b"world");
        artifacts.remove(&[location.clone(), location]).await;
        assert_eq!(files(dir.path()), 0);
    }

    #[tokio::test]
    async fn what_is_refused_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::local(dir.path()).unwrap();
        let refused = artifacts.put(Kind::Input, 5, chunks(&["hello", "!"])).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::PayloadTooLarge);
        let broken = stream::iter([Ok(Bytes::from_static(b"x")), Err(ApiError::overloaded())]);
        assert!(artifacts.put(Kind::Input, 5, broken).await.is_err());
        let unclaimed = artifacts.put(Kind::Input, 5, chunks(&["hello"])).await.unwrap();
        assert_eq!(unclaimed.expect(Some(Sha256Hex::of(b"hello"))), Ok(()));
        let mismatch = unclaimed.expect(Some(Sha256Hex::of(b"other"))).unwrap_err();
        assert_eq!(mismatch.code, ErrorCode::HashMismatch);
        assert!(files(dir.path()) >= 1);
        drop(unclaimed);
        until_gone(dir.path()).await;
    }

    #[tokio::test]
    async fn a_placed_file_without_a_row_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::local(dir.path()).unwrap();
        let mut stored = artifacts.put(Kind::Input, 5, chunks(&["hello"])).await.unwrap();
        stored.place().await.unwrap();
        drop(stored);
        until_gone(dir.path()).await;
    }

    #[tokio::test]
    async fn an_empty_file_is_a_file() {
        let artifacts = Artifacts::memory();
        let stored = artifacts.put(Kind::Artifact, 0, chunks(&[])).await.unwrap();
        assert_eq!((stored.size_bytes, stored.sha256), (0, Sha256Hex::of(b"")));
    }
}
