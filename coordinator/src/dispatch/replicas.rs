//! Wake-ups between replicas. Commits of notices take a lock that all of PostgreSQL shares, so they
//! are gathered: at most one in [`GATHER`], whatever the rate of submissions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use crate::app;
use crate::db::{Db, Notices};

/// How long wake-ups are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(5);

/// How long to wait before listening again after the database was away.
const RETRY: Duration = Duration::from_secs(1);

/// The most classes that one notice names; beyond it, "look at all of them".
const MAX_CLASSES: usize = 256;

/// Starts telling the others and listening to them.
pub(super) fn start(db: &Db, shared: &Arc<Shared>) {
    let own = format!("{:032x}", app::random_u128());
    tokio::spawn(tell(db.clone(), Arc::clone(shared), own.clone()));
    tokio::spawn(hear(db.clone(), Arc::clone(shared), own));
}

async fn tell(db: Db, shared: Arc<Shared>, own: String) {
    loop {
        shared.outgoing_wake.notified().await;
        tokio::time::sleep(GATHER).await;
        let classes = std::mem::take(&mut shared.board().outgoing);
        if classes.is_empty() {
            continue;
        }
        if let Err(error) = db.notify(&notice(&own, &classes)).await {
            tracing::debug!(%error, "could not wake the other replicas; their poll will");
        }
    }
}

fn notice(own: &str, classes: &BTreeSet<i32>) -> String {
    if classes.len() > MAX_CLASSES {
        return format!("{own} *");
    }
    let classes: Vec<String> = classes.iter().map(i32::to_string).collect();
    format!("{own} {}", classes.join(","))
}

async fn hear(db: Db, shared: Arc<Shared>, own: String) {
    loop {
        match db.listen().await {
            Ok(None) => return,
            Ok(Some(notices)) => listen(&db, &shared, &own, notices).await,
            Err(error) => tracing::debug!(%error, "cannot listen to the other replicas"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn listen(db: &Db, shared: &Shared, own: &str, mut notices: Notices) {
    loop {
        let notice = match notices.next().await {
            Ok(notice) => notice,
            Err(error) => {
                tracing::debug!(%error, "lost the other replicas");
                return;
            }
        };
        let said = notice.as_deref().and_then(|notice| notice.split_once(' '));
        if said.is_some_and(|(who, _)| who == own) {
            continue;
        }
        let classes: Option<Vec<i32>> =
            said.and_then(|(_, classes)| classes.split(',').map(|c| c.parse().ok()).collect());
        // Unknown classes, "all of them", or notices that may have been missed: look.
        if !classes.as_deref().is_some_and(|classes| shared.wake_known(classes))
            && let Err(error) = super::refresh(db, shared).await
        {
            tracing::debug!(%error, "cannot look for work");
        }
        shared.wake.notify_one();
    }
}
