//! The place where files are kept: a directory, one that several replicas share, or a bucket. It is
//! tried at start, and it must be the one that the database's rows are about.

use std::fmt;
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::StreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, Error as StoreError, ObjectStoreExt as _};
use protocol::Timestamp;
use ulid::Ulid;

use super::{Artifacts, Kind, store};
use crate::app::random_u128;
use crate::config::Config;
use crate::db::{Db, DbError};

/// What S3 takes at least as a part of an upload, but for the last one, in bytes.
const PART_BYTES: usize = 5 * 1024 * 1024;

/// How long a bucket may take to accept a connection, and to say something.
const CONNECT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(30);

/// Where a store has its mark.
const MARK: &str = "mark";

/// A place as it is named in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory.
    Directory(PathBuf),
    /// A bucket, and what all names in it begin with.
    Bucket {
        /// Its name.
        bucket: String,
        /// May be empty.
        prefix: String,
    },
}

impl Place {
    /// `s3://bucket/prefix`, or the path of a directory.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text {
                "" => Err("must not be empty".to_owned()),
                path => Ok(Self::Directory(PathBuf::from(path))),
            };
        };
        if scheme != "s3" {
            return Err(format!("{scheme}:// is not known: s3://BUCKET/PREFIX or a directory"));
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if bucket.is_empty() || !bucket.chars().all(plain) {
            return Err("must be s3://BUCKET/PREFIX".to_owned());
        }
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(Self::Bucket { bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(dir) => write!(f, "{}", dir.display()),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Why a place cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It cannot be made or reached.
    #[error("artifacts.store {place}: {source}")]
    Io {
        /// Which.
        place: Place,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not do what a store must.
    #[error("artifacts.store: cannot {what}: {source}")]
    Store {
        /// What it was to do.
        what: &'static str,
        /// What it says.
        #[source]
        source: StoreError,
    },
    /// It came back with something else than what was written.
    #[error("artifacts.store: what was written to it is not what is read from it")]
    Garbled,
    /// It is not the one that the rows of the database are about.
    #[error(
        "artifacts.store is not the store that this database's files are in: {found}, and the \
         database knows {known}. Name the store that the other replicas name. If its files are lost \
         and you want to go on without them, write {known} into the object `mark`"
    )]
    Foreign {
        /// What its mark is.
        found: String,
        /// What it should be.
        known: String,
    },
    /// It is another database's, and has files of that.
    #[error(
        "artifacts.store has the files of another database (its mark is {found}), and this database \
         is new: it would delete them all as nobody's. Name a store of its own, or the database \
         that knows these files. If you want the store for this database and its files may go, \
         remove the object `mark` from it"
    )]
    Taken {
        /// What its mark is.
        found: String,
    },
    /// Nobody knows.
    #[error("{0}")]
    Db(#[from] DbError),
}

/// Opens the place that the settings name.
///
/// # Errors
/// Where it cannot be made, or its settings make no sense.
pub fn open(config: &Config) -> Result<Artifacts, PlaceError> {
    let place = config.artifact_place().map_err(|text| PlaceError::Io {
        place: Place::Directory(PathBuf::new()),
        source: io::Error::other(text),
    })?;
    match &place {
        Place::Directory(dir) => {
            Artifacts::local(dir).map_err(|source| PlaceError::Io { place, source })
        }
        Place::Bucket { bucket, prefix } => open_bucket(config, bucket, prefix),
    }
}

/// Keys come from a file, else from the environment (`AWS_ACCESS_KEY_ID`, ..), else from the cloud
/// that the machine is in.
fn open_bucket(config: &Config, bucket: &str, prefix: &str) -> Result<Artifacts, PlaceError> {
    let settings = &config.artifacts;
    // No end for a whole reply: who downloads may be slow. Silence has one.
    let client = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT)
        .with_read_timeout(SILENCE);
    let plain = settings.endpoint.as_ref().is_some_and(|url| url.starts_with("http://"));
    let mut builder = AmazonS3Builder::from_env()
        .with_client_options(client.with_allow_http(plain))
        .with_allow_http(plain)
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(!settings.path_style);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    if let Some(file) = &settings.credentials_file {
        let keys = Credentials::read(file)
            .map_err(|source| PlaceError::Io { place: Place::Directory(file.clone()), source })?;
        builder = builder.with_access_key_id(keys.id).with_secret_access_key(keys.secret);
        if let Some(token) = keys.token {
            builder = builder.with_token(token);
        }
    }
    let bucket =
        builder.build().map_err(|source| PlaceError::Store { what: "be opened", source })?;
    let objects = Arc::new(PrefixStore::new(bucket, prefix));
    Ok(Artifacts { objects, chunk_bytes: PART_BYTES, dir: None })
}

/// The keys of a bucket. Shown nowhere.
struct Credentials {
    id: String,
    secret: String,
    token: Option<String>,
}

impl Credentials {
    /// Reads a credentials file as AWS's own tools write it; of its profiles, `default` counts.
    fn read(file: &FilePath) -> io::Result<Self> {
        Self::parse(&std::fs::read_to_string(file)?)
            .ok_or_else(|| io::Error::other("has no keys in its profile [default]"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut keys = Self { id: String::new(), secret: String::new(), token: None };
        let mut inside = true;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                inside = line == "[default]";
            } else if let Some((name, value)) = line.split_once('=').filter(|_| inside) {
                let value = value.trim().to_owned();
                match name.trim() {
                    "aws_access_key_id" => keys.id = value,
                    "aws_secret_access_key" => keys.secret = value,
                    "aws_session_token" => keys.token = Some(value),
                    _ => {}
                }
            }
        }
        (!keys.id.is_empty() && !keys.secret.is_empty()).then_some(keys)
    }
}

impl Artifacts {
    /// Writes, reads, lists and removes an object: who starts with a store that does not work finds
    /// out now, not with the first result.
    ///
    /// # Errors
    /// What it cannot do.
    pub async fn probe(&self) -> Result<(), PlaceError> {
        let cannot = |what| move |source| PlaceError::Store { what, source };
        let id = Ulid(random_u128()).to_string();
        let at = Path::from(format!("probe/{id}"));
        self.objects.put(&at, id.clone().into()).await.map_err(cannot("write"))?;
        let read = self.read(&at).await.map_err(cannot("read"))?;
        let mut listed = self.objects.list(Some(&Path::from("probe")));
        let mut found = false;
        while let Some(object) = listed.next().await {
            found |= object.map_err(cannot("list"))?.location == at;
        }
        self.objects.delete(&at).await.map_err(cannot("remove"))?;
        let same = read.is_some_and(|bytes| *bytes == *id.as_bytes());
        if same && found { Ok(()) } else { Err(PlaceError::Garbled) }
    }

    async fn read(&self, at: &Path) -> Result<Option<Bytes>, StoreError> {
        match self.objects.get(at).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn own_mark(&self) -> Result<Option<String>, PlaceError> {
        let mark = self.read(&Path::from(MARK)).await;
        let mark = mark.map_err(|source| PlaceError::Store { what: "read its mark", source })?;
        Ok(mark.map(|mark| String::from_utf8_lossy(&mark).trim().to_owned()))
    }

    async fn has_files(&self) -> Result<bool, PlaceError> {
        for kind in [Kind::Artifact, Kind::Input] {
            let first = self.objects.list(Some(&Path::from(kind.area()))).next().await;
            let first = first.transpose();
            if first.map_err(|source| PlaceError::Store { what: "list", source })?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Holds the store's mark against the one that the database knows; both get one at the first
    /// start.
    ///
    /// # Errors
    /// [`PlaceError::Foreign`] where they differ, [`PlaceError::Taken`] where the database is new
    /// and the store has another's files.
    pub async fn check_mark(&self, db: &Db, now: Timestamp) -> Result<(), PlaceError> {
        let mut tx = db.write().await?;
        // The database is asked first: whoever sets its mark has set the store's before the commit.
        let known = match store::mark(&mut tx, now, None).await? {
            Some(known) => known,
            None => {
                let own = self.own_mark().await?;
                // A mark without files is what a first start leaves that did not get to its commit.
                if let Some(found) = &own
                    && self.has_files().await?
                {
                    return Err(PlaceError::Taken { found: found.clone() });
                }
                let first = own.clone().unwrap_or_else(|| Ulid(random_u128()).to_string());
                let known = store::mark(&mut tx, now, Some(&first)).await?;
                if own.is_none() && known.as_deref() == Some(first.as_str()) {
                    let put = self.objects.put(&Path::from(MARK), first.clone().into()).await;
                    put.map_err(|source| PlaceError::Store { what: "write its mark", source })?;
                }
                known.unwrap_or(first)
            }
        };
        let found = self.own_mark().await?;
        if found.as_ref() != Some(&known) {
            let found =
                found.map_or("it has no mark".to_owned(), |mark| format!("its mark is {mark}"));
            return Err(PlaceError::Foreign { found, known });
        }
        Ok(tx.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_or_a_bucket() {
        assert_eq!(Place::parse("/mnt/x"), Ok(Place::Directory("/mnt/x".into())));
        let bucket = |prefix: &str| Place::Bucket { bucket: "b-1".into(), prefix: prefix.into() };
        assert_eq!(Place::parse("s3://b-1"), Ok(bucket("")));
        assert_eq!(Place::parse("s3://b-1/a/b/"), Ok(bucket("a/b")));
        for bad in ["", "s3://", "s3:///x", "s3://key:secret@b/x", "gs://b"] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_come_from_the_default_profile() {
        let file = "[other]\naws_access_key_id = no\n\n[default]\naws_access_key_id = id\n\
                    aws_secret_access_key=a=b\n";
        let keys = Credentials::parse(file).unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.as_str(), keys.token), ("id", "a=b", None));
        assert!(Credentials::parse("[default]\naws_access_key_id = id\n").is_none());
    }

    #[tokio::test]
    async fn a_store_that_works_passes_and_keeps_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::local(dir.path()).unwrap();
        artifacts.probe().await.unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("probe")).unwrap().count(), 0);
    }
}
