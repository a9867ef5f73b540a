//! How many jobs run at once: slots of both kinds, and a limit over all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use protocol::job::SlotKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::SlotPlan;

/// The slots of a node.
#[derive(Debug)]
pub struct Slots {
    plan: SlotPlan,
    total: Arc<Semaphore>,
    cpu: Arc<Semaphore>,
    gpu: Arc<Semaphore>,
    waiting: AtomicU32,
}

/// The right to take one more job in; given back when dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// The right to run one job on a slot of its kind; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    /// All free.
    pub fn new(plan: SlotPlan) -> Self {
        let semaphore = |count: u32| Arc::new(Semaphore::new(count as usize));
        Self {
            plan,
            total: semaphore(plan.total),
            cpu: semaphore(plan.cpu),
            gpu: semaphore(plan.gpu),
            waiting: AtomicU32::new(0),
        }
    }

    /// Waits until one more job may be taken in. `None` never happens while the slots exist.
    pub async fn place(&self) -> Option<Place> {
        let permit = Arc::clone(&self.total).acquire_owned().await.ok()?;
        Some(Place { _permit: permit })
    }

    /// Waits for a slot of `kind`; `None` where the node has none of it.
    pub async fn slot(&self, kind: SlotKind) -> Option<Slot> {
        let (semaphore, count) = match kind {
            SlotKind::Cpu => (&self.cpu, self.plan.cpu),
            SlotKind::Gpu => (&self.gpu, self.plan.gpu),
        };
        if count == 0 {
            return None;
        }
        let _waiting = Waiting::new(&self.waiting);
        let permit = Arc::clone(semaphore).acquire_owned().await.ok()?;
        Some(Slot { _permit: permit })
    }

    /// Waits until no job is taken in.
    pub async fn all_free(&self) {
        // The permits go back at once: they are only there to be counted.
        drop(self.total.acquire_many(self.plan.total).await);
    }

    /// How many more jobs may be taken in.
    pub fn free(&self) -> u32 {
        u32::try_from(self.total.available_permits()).unwrap_or(u32::MAX)
    }

    /// How many jobs were taken in and wait for a slot of their kind.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }
}

struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn n_and_never_one_more() {
        let slots = Slots::new(SlotPlan { cpu: 2, gpu: 0, total: 2 });
        let first = slots.place().now_or_never().flatten();
        let second = slots.place().now_or_never().flatten();
        assert!(first.is_some() && second.is_some());
        assert_eq!(slots.free(), 0);
        assert!(slots.place().now_or_never().is_none());
        drop(first);
        assert_eq!(slots.free(), 1);
        assert!(slots.place().now_or_never().flatten().is_some());
    }

    #[test]
    fn kinds_do_not_take_each_others_slots() {
        let slots = Slots::new(SlotPlan { cpu: 1, gpu: 0, total: 1 });
        assert!(matches!(slots.slot(SlotKind::Gpu).now_or_never(), Some(None)));
        let held = slots.slot(SlotKind::Cpu).now_or_never().flatten();
        assert!(held.is_some());
        let mut next = Box::pin(slots.slot(SlotKind::Cpu));
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(slots.waiting(), 1);
        drop(held);
        assert!(next.now_or_never().flatten().is_some());
        assert_eq!(slots.waiting(), 0);
    }
}
