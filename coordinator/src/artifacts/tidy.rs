//! What lies in the store and is nobody's: uploads that broke off with their process, files whose
//! rows were never committed.

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::time::UNIX_EPOCH;

use futures_util::StreamExt as _;
use object_store::ObjectMeta;
use object_store::path::Path;
use protocol::Timestamp;

use super::{Artifacts, INCOMING, Kind, store};
use crate::db::{Db, DbError};

/// How many files are looked at in one place at most; what is left has its turn later.
const MOST: usize = 10_000;

/// How many files are held against the database at once.
const AT_ONCE: usize = 500;

/// The letters of a place's name: Crockford's base 32.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// How many parts the store has: each kind's files, by the last two letters of their names.
pub const SHARDS: usize = 2 * LETTERS.len() * LETTERS.len();

/// The name of a part of the store.
fn shard(number: usize) -> String {
    let letter = |at: usize| char::from(LETTERS[at % LETTERS.len()]);
    let kind = if number.is_multiple_of(2) { Kind::Artifact } else { Kind::Input };
    format!("{}/{}{}", kind.area(), letter(number / 2 / LETTERS.len()), letter(number / 2))
}

impl Artifacts {
    /// Removes what began to arrive before `before` and was never placed.
    pub async fn remove_abandoned(&self, before: Timestamp) {
        match &self.dir {
            // The store does not list what it has not finished.
            Some(dir) => remove_old_files(&dir.join(INCOMING), before).await,
            None => {
                let old = self.list(INCOMING, before).await;
                self.remove(&old).await;
            }
        }
    }

    /// Removes the files of one part of the store that are from before `before` and that no row
    /// names; returns how many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn remove_orphans(
        &self,
        db: &Db,
        number: usize,
        before: Timestamp,
    ) -> Result<usize, DbError> {
        let mut removed = 0;
        let old = self.list(&shard(number), before).await;
        for some in old.chunks(AT_ONCE) {
            let named: HashSet<String> = store::named(&mut db.read().await?, some).await?;
            let orphans: Vec<String> =
                some.iter().filter(|place| !named.contains(*place)).cloned().collect();
            removed += orphans.len();
            self.remove(&orphans).await;
        }
        Ok(removed)
    }

    async fn list(&self, prefix: &str, before: Timestamp) -> Vec<String> {
        let is_old = |object: &ObjectMeta| {
            Timestamp::from_micros(object.last_modified.timestamp_micros()) < before
        };
        let mut listed = self.objects.list(Some(&Path::from(prefix))).take(MOST);
        let mut old = Vec::new();
        while let Some(object) = listed.next().await {
            match object {
                Ok(object) if is_old(&object) => old.push(object.location.to_string()),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, prefix, "the artifact store could not be listed");
                    break;
                }
            }
        }
        old
    }
}

async fn remove_old_files(dir: &FilePath, before: Timestamp) {
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let modified = entry.metadata().await.and_then(|about| about.modified());
        let since = modified.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let micros = since.and_then(|since| i64::try_from(since.as_micros()).ok());
        if micros.is_some_and(|micros| Timestamp::from_micros(micros) < before)
            && let Err(error) = tokio::fs::remove_file(entry.path()).await
        {
            tracing::warn!(%error, "an upload that broke off could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_in_one_part() {
        let shards: HashSet<String> = (0..SHARDS).map(shard).collect();
        assert_eq!(shards.len(), SHARDS);
        for kind in [Kind::Artifact, Kind::Input] {
            let (_, location) = super::super::new_locations(kind);
            let (shard, _) = location.as_ref().rsplit_once('/').unwrap();
            assert!(shards.contains(shard), "{location}");
        }
    }
}
