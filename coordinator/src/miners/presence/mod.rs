//! Which miners are there, from memory: what was read from the database lately, and who was heard
//! of, here or by another replica.
//!
//! Heartbeats end here and reach the database in one statement a second, through
//! [`Presence::flush`]. What is lost with the process is what a miner says again, and up to five
//! minutes of its uptime.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::{Name, Timestamp};
use serde_json::{Value, json};

use super::{Miner, heartbeat_secs, store};
use crate::app::Clock;
use crate::config::Leases;
use crate::db::{Db, DbError};

/// How old what was read from the database may be: another replica may have changed it.
const MAX_AGE: Duration = Duration::from_secs(5);

/// How often what changed is read for all of them at once: sooner than it is too old, so that nobody
/// asks for one of them alone.
const REFRESH_EVERY: Duration = Duration::from_secs(4);

/// How much clocks of replicas may differ, in seconds.
const SKEW_SECS: i64 = 60;

/// How long a miner that is not heard of stays in memory.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// How long a miner was there is written when it is this much: heartbeats come far more often.
const UPTIME_EVERY: Duration = Duration::from_secs(300);

/// The most reports, of up to 16 KiB each, that one transaction writes: nobody else writes meanwhile
/// where there is one writer.
const MAX_CHUNK: usize = 1000;

/// What this replica knows of the miners.
#[derive(Debug)]
pub struct Presence {
    db: Db,
    clock: Clock,
    leases: Leases,
    known: Mutex<Known>,
    /// How many were online at the last flush.
    fleet: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    entries: HashMap<Name, Entry>,
    names: HashMap<i64, Name>,
    /// When what other replicas wrote was last read.
    refreshed_at: Option<Timestamp>,
    /// Whoever was heard of since then was read.
    heard_from: Option<Timestamp>,
}

#[derive(Debug)]
struct Entry {
    miner: Arc<Miner>,
    read_at: Timestamp,
    /// It was changed since.
    outdated: bool,
    seen_at: Option<Timestamp>,
    /// What it said since the last flush.
    report: Option<Value>,
    /// Heard of since the last flush.
    unwritten: bool,
    /// For how long it was there without that being written.
    up: Duration,
}

/// A miner that was heard of, for the next flush.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// The miner.
    pub miner_no: i64,
    /// When it was last heard of.
    pub seen_at: Timestamp,
    /// What it reported; an empty object where it did not.
    pub report: Value,
    /// For how long it was there, not written before; zero until it is worth a row.
    pub up: Duration,
}

impl Presence {
    /// Knows nobody yet.
    pub fn new(db: Db, clock: Clock, leases: Leases) -> Self {
        Self { db, clock, leases, known: Mutex::default(), fleet: AtomicUsize::new(0) }
    }

    /// The miner of that name. What comes back is at most 5 s old, and the same `Arc` as before
    /// as long as nothing about the miner changed.
    ///
    /// Reads the database: do not call it while a transaction is open.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn find(&self, id: &Name) -> Result<Option<Arc<Miner>>, DbError> {
        let now = self.clock.now();
        if let Some(miner) = self.lock().fresh(id, now) {
            return Ok(Some(miner));
        }
        // Boxed: each request would carry the room for it otherwise.
        Box::pin(self.look_up(id, now)).await
    }

    async fn look_up(&self, id: &Name, now: Timestamp) -> Result<Option<Arc<Miner>>, DbError> {
        let mut tx = self.db.read().await?;
        let found = store::find(&mut tx, id).await?;
        tx.commit().await?;
        Ok(found.map(|miner| self.lock().put(miner, now)))
    }

    /// Takes over what was just written to the database.
    pub fn changed(&self, miner: Miner) -> Arc<Miner> {
        let now = self.clock.now();
        self.lock().put(miner, now)
    }

    /// Something about the miner changed in the database: it is read again when it is asked for.
    pub fn forget(&self, no: i64) {
        let mut known = self.lock();
        let Known { entries, names, .. } = &mut *known;
        if let Some(entry) = names.get(&no).and_then(|name| entries.get_mut(name)) {
            entry.outdated = true;
        }
    }

    /// A name is no longer that of the miner it was.
    pub fn release(&self, id: &Name) {
        let mut known = self.lock();
        if let Some(entry) = known.entries.remove(id) {
            known.names.remove(&entry.miner.no);
        }
    }

    /// The miner was heard of, with a report if this was a heartbeat. In memory only.
    pub fn saw(&self, miner: &Arc<Miner>, report: Option<Value>) {
        let now = self.clock.now();
        let silence = self.silence();
        let mut known = self.lock();
        if !known.entries.contains_key(&miner.id) {
            known.put(Miner::clone(miner), now);
        }
        if let Some(entry) = known.entries.get_mut(&miner.id) {
            // What lies between is what another replica counts from, where that was the last to hear.
            let before = entry.seen_at.map(|at| now.since(at)).filter(|gap| *gap <= silence);
            entry.up += before.unwrap_or_default();
            entry.seen_at = Some(now);
            entry.unwritten = true;
            if report.is_some() {
                entry.report = report;
            }
        }
    }

    /// Reads whom other replicas, or this one before it was started, heard of lately.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn refresh(&self) -> Result<(), DbError> {
        let now = self.clock.now();
        let since = self.lock().read_since().unwrap_or(now);
        let heard_from = self.lock().hear_from(now, self.silence());
        let mut tx = self.db.read().await?;
        let changed = store::changed_since(&mut tx, since.plus_secs(-SKEW_SECS)).await?;
        let heard = store::heard_since(&mut tx, heard_from).await?;
        let unknown = self.lock().unknown(&heard);
        let missing = store::by_no(&mut tx, &unknown).await?;
        tx.commit().await?;
        let mut known = self.lock();
        for miner in missing {
            known.put(miner, now);
        }
        for miner in changed {
            if known.names.contains_key(&miner.no) {
                known.put(miner, now);
            }
        }
        known.heard(&heard);
        known.refreshed_at = Some(now);
        known.heard_from = known.heard_from.min(Some(heard_from)).or(Some(heard_from));
        self.fleet.store(known.online(now, self.silence()).count(), Ordering::Relaxed);
        Ok(())
    }

    /// Writes who was heard of since the last call, and now and then does what [`Self::refresh`]
    /// does and lets go of whom nobody heard for long.
    ///
    /// # Errors
    /// Where the database fails; nothing is lost, the next call tries again.
    pub async fn flush(&self) -> Result<(), DbError> {
        let now = self.clock.now();
        let refreshed_at = self.lock().refreshed_at;
        if refreshed_at.is_none_or(|at| now < at || now.since(at) >= REFRESH_EVERY) {
            self.refresh().await?;
            self.lock().prune(now);
        }
        let silence = self.silence();
        let sightings = self.lock().take_unwritten(now, silence);
        let mut rest = sightings.as_slice();
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(rest.len().min(MAX_CHUNK));
            if let Err(error) = self.write(chunk).await {
                self.lock().put_back(rest);
                return Err(error);
            }
            rest = later;
        }
        Ok(())
    }

    async fn write(&self, sightings: &[Sighting]) -> Result<(), DbError> {
        let mut tx = self.db.write().await?;
        store::saw(&mut tx, sightings).await?;
        store::note_uptime(&mut tx, sightings).await?;
        tx.commit().await
    }

    /// The miners that were heard of lately: within `offline_after` heartbeat intervals.
    pub fn online(&self, now: Timestamp) -> Vec<Arc<Miner>> {
        let silence = self.silence();
        self.lock().online(now, silence).map(|entry| Arc::clone(&entry.miner)).collect()
    }

    /// The miners that were heard of in the last hour, but not lately, and when.
    pub fn silent(&self, now: Timestamp) -> Vec<(Arc<Miner>, Timestamp)> {
        let silence = self.silence();
        let known = self.lock();
        let gone = known.entries.values().filter_map(|entry| {
            let at = entry.seen_at.filter(|at| now.since(*at) > silence)?;
            (now.since(at) <= FORGET_AFTER).then(|| (Arc::clone(&entry.miner), at))
        });
        gone.collect()
    }

    /// When a miner was last heard of, if it was in the last hour.
    pub fn seen_at(&self, id: &Name) -> Option<Timestamp> {
        self.lock().entries.get(id)?.seen_at
    }

    /// For how long a miner was there without that being in the database, up to now.
    pub fn unwritten_uptime(&self, id: &Name, now: Timestamp) -> Duration {
        let usual = Duration::from_secs(u64::from(self.heartbeat_secs(false)));
        let known = self.lock();
        let Some(entry) = known.entries.get(id) else { return Duration::ZERO };
        let since = entry.seen_at.map(|at| now.since(at)).filter(|gap| *gap <= usual);
        entry.up + since.unwrap_or_default()
    }

    /// When a miner shall send its next heartbeat, in seconds.
    pub fn heartbeat_secs(&self, holds_lease: bool) -> u32 {
        heartbeat_secs(&self.leases, self.fleet.load(Ordering::Relaxed), holds_lease)
    }

    /// For how long a miner may be silent and still count as online.
    pub fn silence(&self) -> Duration {
        Duration::from_secs(u64::from(self.heartbeat_secs(false)))
            .saturating_mul(self.leases.offline_after)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// What changes in the database reaches all entries at `refreshed_at`.
    fn is_fresh(&self, refreshed_at: Option<Timestamp>, now: Timestamp) -> bool {
        // A clock that went back makes nothing fresh for ever.
        let is_recent = |at: Timestamp| at <= now && now.since(at) <= MAX_AGE;
        !self.outdated && (is_recent(self.read_at) || refreshed_at.is_some_and(is_recent))
    }

    /// Whether it is gone, and how long it was there is not yet written.
    fn left(&self, now: Timestamp, silence: Duration) -> bool {
        !self.up.is_zero() && self.seen_at.is_none_or(|at| now.since(at) > silence)
    }

    /// What is to be written of it.
    fn take(&mut self, now: Timestamp, silence: Duration) -> Option<Sighting> {
        self.unwritten = false;
        let seen_at = self.seen_at?;
        let due = self.up >= UPTIME_EVERY || self.left(now, silence);
        let up = if due { std::mem::take(&mut self.up) } else { Duration::ZERO };
        Some(Sighting {
            miner_no: self.miner.no,
            seen_at,
            report: self.report.take().unwrap_or_else(|| json!({})),
            up,
        })
    }
}

impl Known {
    fn fresh(&self, id: &Name, now: Timestamp) -> Option<Arc<Miner>> {
        let entry = self.entries.get(id)?;
        entry.is_fresh(self.refreshed_at, now).then(|| Arc::clone(&entry.miner))
    }

    /// Since when something in memory may have changed in the database; `None`: there is nothing.
    fn read_since(&self) -> Option<Timestamp> {
        self.refreshed_at.or_else(|| self.entries.values().map(|entry| entry.read_at).min())
    }

    /// Since when to read who was heard of: what was read before is known, unless it does not reach
    /// back as far as a miner may now be silent.
    fn hear_from(&self, now: Timestamp, silence: Duration) -> Timestamp {
        let silence = i64::try_from(silence.as_secs()).unwrap_or(i64::MAX);
        let furthest = now.plus_secs(-silence);
        let known = self.heard_from.is_some_and(|from| from <= furthest);
        match self.refreshed_at.map(|at| at.plus_secs(-SKEW_SECS)) {
            // A clock that went back leaves nothing out.
            Some(last) if known && last <= now => last.max(furthest),
            _ => furthest,
        }
    }

    fn put(&mut self, miner: Miner, now: Timestamp) -> Arc<Miner> {
        let former = self.names.insert(miner.no, miner.id.clone());
        if let Some(former) = former.filter(|former| *former != miner.id) {
            // Released elsewhere: the name is nobody's, or another's.
            self.entries.remove(&former);
        }
        let entry = self.entries.entry(miner.id.clone()).or_insert_with(|| Entry {
            miner: Arc::new(miner.clone()),
            read_at: now,
            outdated: false,
            seen_at: None,
            report: None,
            unwritten: false,
            up: Duration::ZERO,
        });
        entry.read_at = now;
        entry.outdated = false;
        // Others keep what they worked out for a miner under its pointer.
        if *entry.miner != miner {
            entry.miner = Arc::new(miner);
        }
        Arc::clone(&entry.miner)
    }

    fn online(&self, now: Timestamp, silence: Duration) -> impl Iterator<Item = &Entry> {
        self.entries
            .values()
            .filter(move |entry| entry.seen_at.is_some_and(|at| now.since(at) <= silence))
    }

    /// Of the miners that were heard of, those that are not in memory.
    fn unknown(&self, heard: &[(i64, Timestamp)]) -> Vec<i64> {
        heard.iter().map(|(no, _)| *no).filter(|no| !self.names.contains_key(no)).collect()
    }

    fn heard(&mut self, heard: &[(i64, Timestamp)]) {
        for (no, at) in heard {
            let Some(name) = self.names.get(no) else { continue };
            if let Some(entry) = self.entries.get_mut(name) {
                entry.seen_at = entry.seen_at.max(Some(*at));
            }
        }
    }

    /// In one order everywhere, so that two replicas do not lock each other out.
    fn take_unwritten(&mut self, now: Timestamp, silence: Duration) -> Vec<Sighting> {
        let mut sightings: Vec<_> = self
            .entries
            .values_mut()
            .filter(|entry| entry.unwritten || entry.left(now, silence))
            .filter_map(|entry| entry.take(now, silence))
            .collect();
        sightings.sort_unstable_by_key(|sighting| sighting.miner_no);
        sightings
    }

    fn put_back(&mut self, sightings: &[Sighting]) {
        for sighting in sightings {
            let Some(name) = self.names.get(&sighting.miner_no) else { continue };
            if let Some(entry) = self.entries.get_mut(name) {
                entry.unwritten = true;
                entry.up += sighting.up;
                if entry.report.is_none() {
                    entry.report = Some(sighting.report.clone());
                }
            }
        }
    }

    fn prune(&mut self, now: Timestamp) {
        self.entries.retain(|_, entry| {
            let last = entry.seen_at.map_or(entry.read_at, |seen| seen.max(entry.read_at));
            entry.unwritten || now.since(last) <= FORGET_AFTER
        });
        let entries = &self.entries;
        self.names.retain(|_, name| entries.contains_key(name));
    }
}

#[cfg(test)]
mod tests;
