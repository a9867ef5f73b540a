//! What replicas on one database tell each other: which classes have work, which jobs that are
//! followed elsewhere have new events. Hints over one LISTEN connection; whoever misses one finds
//! out by looking.
//!
//! Commits of notices take a lock that all of PostgreSQL shares, so they are gathered: at most one
//! of each kind in [`GATHER`], whatever the rate of submissions.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::JobId;
use tokio::sync::Notify;

use crate::app;
use crate::db::{Db, Notices};
use crate::dispatch::Dispatch;
use crate::events::follow::Follow;

/// How long news are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(5);

/// How long to wait before listening again after the database was away.
const RETRY: Duration = Duration::from_secs(1);

/// The most things that one notice names; beyond it, "look at all of them".
const MAX_NAMED: usize = 256;

/// What other replicas have not been told of yet.
#[derive(Debug, Default)]
pub struct Replicas {
    outgoing: Mutex<Outgoing>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Outgoing {
    classes: BTreeSet<i32>,
    jobs: HashSet<JobId>,
}

/// What a notice says.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// Classes have a queued job.
    Classes(Vec<i32>),
    /// Jobs have new events.
    Jobs(Vec<JobId>),
    /// Anything may have happened.
    Anything,
}

impl Replicas {
    /// Classes have a queued job.
    pub fn tell_classes(&self, classes: impl IntoIterator<Item = i32>) {
        self.tell(|outgoing| outgoing.classes.extend(classes));
    }

    /// Jobs that somebody follows at another replica have new events.
    pub fn tell_jobs(&self, jobs: HashSet<JobId>) {
        if !jobs.is_empty() {
            self.tell(|outgoing| outgoing.jobs.extend(jobs));
        }
    }

    fn tell(&self, what: impl FnOnce(&mut Outgoing)) {
        what(&mut self.outgoing.lock().unwrap_or_else(PoisonError::into_inner));
        self.more.notify_one();
    }

    fn take(&self) -> Outgoing {
        std::mem::take(&mut *self.outgoing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Starts telling the others and listening to them.
pub fn start(db: &Db, replicas: Arc<Replicas>, dispatch: Dispatch, follow: Follow) {
    let own = format!("{:032x}", app::random_u128());
    tokio::spawn(tell(db.clone(), replicas, own.clone()));
    tokio::spawn(hear(db.clone(), dispatch, follow, own));
}

async fn tell(db: Db, replicas: Arc<Replicas>, own: String) {
    loop {
        replicas.more.notified().await;
        tokio::time::sleep(GATHER).await;
        let Outgoing { classes, jobs } = replicas.take();
        for notice in [notice(&own, "classes", &classes), notice(&own, "jobs", &jobs)] {
            let Some(notice) = notice else { continue };
            if let Err(error) = db.notify(&notice).await {
                tracing::debug!(%error, "could not tell the other replicas; they will look");
            }
        }
    }
}

fn notice<'a, T: Display + 'a>(
    own: &str,
    kind: &str,
    named: impl IntoIterator<Item = &'a T>,
) -> Option<String> {
    let named: Vec<String> = named.into_iter().map(T::to_string).collect();
    match named.len() {
        0 => None,
        1..=MAX_NAMED => Some(format!("{own} {kind} {}", named.join(","))),
        _ => Some(format!("{own} {kind} *")),
    }
}

/// `None`: our own words. What cannot be read may be of a newer build, and mean anything.
fn news(notice: Option<&str>, own: &str) -> Option<News> {
    let mut words = notice.unwrap_or_default().splitn(3, ' ');
    if words.next() == Some(own) {
        return None;
    }
    let (kind, named) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let news = match kind {
        "classes" => list(named).map(News::Classes),
        "jobs" => list(named).map(News::Jobs),
        _ => None,
    };
    Some(news.unwrap_or(News::Anything))
}

fn list<T: std::str::FromStr>(named: &str) -> Option<Vec<T>> {
    named.split(',').map(|name| name.parse().ok()).collect()
}

async fn hear(db: Db, dispatch: Dispatch, follow: Follow, own: String) {
    loop {
        match db.listen().await {
            Ok(None) => return,
            Ok(Some(notices)) => {
                // What was said while nobody listened.
                dispatch.heard(&db, None).await;
                follow.heard(None);
                listen(&db, &dispatch, &follow, &own, notices).await;
            }
            Err(error) => tracing::debug!(%error, "cannot listen to the other replicas"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn listen(db: &Db, dispatch: &Dispatch, follow: &Follow, own: &str, mut notices: Notices) {
    loop {
        let notice = match notices.next().await {
            Ok(notice) => notice,
            Err(error) => {
                tracing::debug!(%error, "lost the other replicas");
                return;
            }
        };
        match news(notice.as_deref(), own) {
            None => {}
            Some(News::Classes(classes)) => dispatch.heard(db, Some(&classes)).await,
            Some(News::Jobs(jobs)) => follow.heard(Some(jobs)),
            Some(News::Anything) => {
                dispatch.heard(db, None).await;
                follow.heard(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_comes_back_as_it_was_sent_but_for_our_own() {
        let heard = |notice: Option<String>| news(notice.as_deref(), "me");
        assert_eq!(notice::<i32>("you", "classes", &[]), None);
        assert_eq!(heard(notice("you", "classes", &[1, -2])), Some(News::Classes(vec![1, -2])));
        let jobs = [JobId::from_u128(7), JobId::from_u128(8)];
        assert_eq!(heard(notice("you", "jobs", &jobs)), Some(News::Jobs(jobs.to_vec())));
        assert_eq!(heard(notice("me", "jobs", &jobs)), None);
        let many: Vec<i32> = (0..300).collect();
        assert_eq!(heard(notice("you", "classes", &many)), Some(News::Anything));
        assert_eq!(heard(None), Some(News::Anything));
        assert_eq!(heard(Some("you something new".to_owned())), Some(News::Anything));
        assert_eq!(heard(Some(String::new())), Some(News::Anything));
    }

    #[test]
    fn a_full_notice_fits() {
        let jobs: Vec<JobId> =
            (0..MAX_NAMED as u128).map(|n| JobId::from_u128(u128::MAX - n)).collect();
        assert!(notice(&"f".repeat(32), "jobs", &jobs).unwrap().len() < 8000);
    }
}
