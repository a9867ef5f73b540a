//! The copy of the decisions that each replica keeps: changed at once where they are made, and read
//! again every second elsewhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{InForce, store};
use crate::db::{Db, DbError};

/// How often it is looked whether another replica changed them: as long as a revoked key may still
/// work there.
const LOOK: Duration = Duration::from_secs(1);

/// A handle on this replica's copy.
#[derive(Debug, Clone)]
pub struct Switchboard {
    in_force: Arc<watch::Sender<Arc<InForce>>>,
}

impl Switchboard {
    /// Reads what is in force.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn start(db: &Db) -> Result<Self, DbError> {
        let in_force = store::newer(&mut db.read().await?, 0).await?.unwrap_or_default();
        Ok(Self { in_force: Arc::new(watch::Sender::new(Arc::new(in_force))) })
    }

    /// What is in force.
    pub fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.borrow())
    }

    /// Tells when something else is.
    pub fn changes(&self) -> watch::Receiver<Arc<InForce>> {
        self.in_force.subscribe()
    }

    /// Takes over what was just written, unless something newer is in force.
    pub fn take_over(&self, newer: InForce) {
        self.in_force.send_if_modified(|in_force| {
            let is_newer = newer.version > in_force.version;
            if is_newer {
                *in_force = Arc::new(newer);
            }
            is_newer
        });
    }

    /// Looks whether another replica changed them.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn refresh(&self, db: &Db) -> Result<(), DbError> {
        let version = self.in_force.borrow().version;
        let newer = store::newer(&mut db.read().await?, version).await?;
        if let Some(newer) = newer {
            tracing::info!(version = newer.version, "controls changed");
            self.take_over(newer);
        }
        Ok(())
    }

    /// Looks every second, for good.
    pub async fn follow(&self, db: &Db) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.refresh(db).await {
                tracing::debug!(%error, "cannot look for changed controls");
            }
        }
    }
}
