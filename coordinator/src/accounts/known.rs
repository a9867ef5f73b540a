//! The keys that were looked up lately, and what is left of their limits: memory in front of the
//! database, and a gate that strangers cannot crowd.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::rate::{Bucket, Rate};
use super::store::{self, StoredKey};
use crate::app::Clock;
use crate::db::Db;
use crate::error::ApiError;

/// How long an answer is believed without asking the database: what another replica revoked works
/// here for no longer, and what was made there does not work here for no longer.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Above this many entries, those that no longer matter are thrown out.
const TIDY_ABOVE: usize = 10_000;

/// How many ids that are not known to be keys are looked up at once.
const STRANGERS: usize = 8;

/// How many keys are looked up again at once.
const REFRESHES: usize = 64;

/// How many requests wait for either.
const WAITING: usize = 4096;

/// How long a request waits for its turn: as long as for a connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// The keys that were looked up lately, and what is left of their limits.
#[derive(Debug)]
pub struct Keys {
    known: Mutex<Known>,
    buckets: Mutex<HashMap<String, Bucket>>,
    /// Anybody can make up ids: they wait for each other only, not in front of those with a key.
    strangers: Queue,
    refreshes: Queue,
}

#[derive(Debug, Default)]
struct Known {
    /// Counts revocations: what was read before one may be stale already.
    revocations: u64,
    by_id: HashMap<String, (Timestamp, Arc<StoredKey>)>,
    /// Ids that are none, and when that was found.
    none: HashMap<String, Timestamp>,
}

/// What memory says of an id.
#[derive(Debug)]
enum Recalled {
    Answer(Option<Arc<StoredKey>>),
    Stale,
    Nothing,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            buckets: Mutex::default(),
            strangers: Queue::new(STRANGERS, WAITING),
            refreshes: Queue::new(REFRESHES, WAITING),
        }
    }
}

impl Keys {
    /// The key of this id, unless it was revoked.
    ///
    /// # Errors
    /// `OVERLOADED` where too many are looked up already, or where the database fails.
    pub async fn find(
        &self,
        db: &Db,
        clock: &Clock,
        id: &str,
    ) -> Result<Option<Arc<StoredKey>>, ApiError> {
        let recalled = self.known().recall(clock.now(), id);
        let queue = match recalled {
            Recalled::Answer(answer) => return Ok(answer),
            Recalled::Stale => &self.refreshes,
            Recalled::Nothing => &self.strangers,
        };
        // Boxed: each request would carry the room for it otherwise.
        Box::pin(self.look_up(queue, db, clock, id)).await
    }

    async fn look_up(
        &self,
        queue: &Queue,
        db: &Db,
        clock: &Clock,
        id: &str,
    ) -> Result<Option<Arc<StoredKey>>, ApiError> {
        let _turn = queue.turn().await?;
        let now = clock.now();
        let before = {
            let known = self.known();
            // Whoever was in front may have asked for the same id.
            if let Recalled::Answer(answer) = known.recall(now, id) {
                return Ok(answer);
            }
            known.revocations
        };
        let mut tx = db.read().await?;
        let found = store::find_key(&mut tx, id).await?.map(Arc::new);
        drop(tx);
        self.known().learn(before, now, id, found.as_ref());
        Ok(found)
    }

    /// Counts a call with the key `id`, of which `limit` a minute are allowed.
    pub fn count(&self, now: Timestamp, id: &str, limit: u32) -> Rate {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= TIDY_ABOVE {
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        buckets.entry(id.to_owned()).or_insert_with(Bucket::full).take(now, limit)
    }

    /// Forgets a key that was revoked, so that its next use asks the database.
    pub fn forget(&self, id: &str) {
        let mut known = self.known();
        known.revocations += 1;
        known.by_id.remove(id);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock that went back makes nothing fresh for ever.
fn is_fresh(read_at: Timestamp, now: Timestamp) -> bool {
    read_at <= now && now.since(read_at) < MAX_AGE
}

impl Known {
    fn recall(&self, now: Timestamp, id: &str) -> Recalled {
        match (self.by_id.get(id), self.none.get(id)) {
            (Some((at, key)), _) if is_fresh(*at, now) => Recalled::Answer(Some(Arc::clone(key))),
            (Some(_), _) => Recalled::Stale,
            (None, Some(at)) if is_fresh(*at, now) => Recalled::Answer(None),
            (None, _) => Recalled::Nothing,
        }
    }

    fn learn(&mut self, before: u64, now: Timestamp, id: &str, found: Option<&Arc<StoredKey>>) {
        match found {
            Some(key) if self.revocations == before => {
                if self.by_id.len() >= TIDY_ABOVE {
                    self.by_id.retain(|_, (read_at, _)| is_fresh(*read_at, now));
                }
                self.by_id.insert(id.to_owned(), (now, Arc::clone(key)));
                self.none.remove(id);
            }
            Some(_) => {}
            None => {
                self.by_id.remove(id);
                // All at once: to look for the old ones each time would cost whoever fills it nothing
                // and us much.
                if self.none.len() >= TIDY_ABOVE {
                    self.none.clear();
                }
                self.none.insert(id.to_owned(), now);
            }
        }
    }
}

/// Look-ups: so many at once, so many more that wait for their turn.
#[derive(Debug)]
struct Queue {
    turns: Semaphore,
    places: Semaphore,
}

impl Queue {
    fn new(at_once: usize, waiting: usize) -> Self {
        Self { turns: Semaphore::new(at_once), places: Semaphore::new(at_once + waiting) }
    }

    async fn turn(&self) -> Result<[SemaphorePermit<'_>; 2], ApiError> {
        let place = self.places.try_acquire().map_err(|_| ApiError::overloaded())?;
        match tokio::time::timeout(PATIENCE, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok([turn, place]),
            Ok(Err(_)) | Err(_) => Err(ApiError::overloaded()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_immediate;
    use protocol::wallet::Scope;
    use protocol::{ErrorCode, Sha256Hex};

    use super::*;
    use crate::accounts::{Binding, Minted};

    fn clock() -> Clock {
        Clock::manual(Timestamp::from_micros(1_000_000_000_000_000))
    }

    async fn db() -> Db {
        let db = Db::open("sqlite::memory:", 1).unwrap();
        db.migrate().await.unwrap();
        db
    }

    #[tokio::test]
    async fn strangers_wait_for_each_other_and_not_without_end() {
        let (db, clock) = (db().await, clock());
        let keys = Keys { strangers: Queue::new(1, 1), ..Keys::default() };
        // Readers share the only connection: no look-up ends while this one is open.
        let tx = db.write().await.unwrap();
        let mut first = Box::pin(keys.find(&db, &clock, "client-1"));
        let mut second = Box::pin(keys.find(&db, &clock, "client-2"));
        assert_eq!(poll_immediate(&mut first).await, None);
        assert_eq!(poll_immediate(&mut second).await, None);
        let refused = keys.find(&db, &clock, "client-3").await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Overloaded);
        drop(tx);
        assert_eq!(first.await, Ok(None));
        assert_eq!(second.await, Ok(None));
    }

    #[tokio::test]
    async fn strangers_do_not_stand_in_front_of_known_keys() {
        let (db, clock) = (db().await, clock());
        let keys = Keys { strangers: Queue::new(1, 0), ..Keys::default() };
        let minted = Minted::from_random(Scope::Admin, [1; 8], [2; 32]);
        let mut tx = db.write().await.unwrap();
        store::add_key(&mut tx, clock.now(), &minted, Scope::Admin, &Binding::Admin).await.unwrap();
        tx.commit().await.unwrap();
        assert!(keys.find(&db, &clock, &minted.id).await.unwrap().is_some());
        clock.advance(MAX_AGE);
        let _taken = keys.strangers.turn().await.unwrap();
        let stranger = keys.find(&db, &clock, "client-1").await.unwrap_err();
        assert_eq!(stranger.code, ErrorCode::Overloaded);
        assert!(keys.find(&db, &clock, &minted.id).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn what_is_no_key_is_not_asked_for_twice_in_a_second() {
        let (db, clock) = (db().await, clock());
        let keys = Keys::default();
        assert_eq!(keys.find(&db, &clock, "client-1").await, Ok(None));
        db.close().await;
        assert_eq!(keys.find(&db, &clock, "client-1").await, Ok(None));
        clock.advance(MAX_AGE);
        let asked = keys.find(&db, &clock, "client-1").await.unwrap_err();
        assert_eq!(asked.code, ErrorCode::DbUnavailable);
    }

    #[test]
    fn made_up_ids_do_not_fill_the_memory() {
        let (mut known, now) = (Known::default(), clock().now());
        let secret_sha256 = Sha256Hex::of(b"secret");
        let key = Arc::new(StoredKey { binding: Binding::Admin, secret_sha256, slots: 1 });
        known.learn(0, now, "admin-1", Some(&key));
        for id in 0..=TIDY_ABOVE {
            known.learn(0, now, &format!("client-{id}"), None);
        }
        assert!(known.none.len() <= TIDY_ABOVE);
        assert!(matches!(known.recall(now, "admin-1"), Recalled::Answer(Some(_))));
    }
}
