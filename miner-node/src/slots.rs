//! How many jobs run at once: slots of both kinds, and a limit over all. A GPU slot is one GPU, which
//! no other job has meanwhile.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use protocol::job::SlotKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::capabilities::GpuDevice;
use crate::config::SlotPlan;

/// The slots of a node.
#[derive(Debug)]
pub struct Slots {
    plan: SlotPlan,
    total: Arc<Semaphore>,
    cpu: Arc<Semaphore>,
    gpu: Arc<Semaphore>,
    free_gpus: FreeGpus,
    waiting: AtomicU32,
}

/// The right to take one more job in; given back when dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// GPUs that no job has.
type FreeGpus = Arc<Mutex<Vec<GpuDevice>>>;

/// The right to run one job on a slot of its kind; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    // Before the permit: whoever gets that finds the GPU.
    gpu: Option<LentGpu>,
    _permit: OwnedSemaphorePermit,
}

/// A GPU that one job has; given back when dropped.
#[derive(Debug)]
struct LentGpu {
    device: GpuDevice,
    free: FreeGpus,
}

impl Slot {
    /// The GPU, of a GPU slot.
    pub fn gpu(&self) -> Option<&GpuDevice> {
        self.gpu.as_ref().map(|lent| &lent.device)
    }
}

impl LentGpu {
    /// The one with the lowest index.
    fn take(free: &FreeGpus) -> Option<Self> {
        let mut gpus = free.lock().unwrap_or_else(PoisonError::into_inner);
        let first = gpus.iter().enumerate().min_by_key(|(_, gpu)| gpu.index)?.0;
        Some(Self { device: gpus.swap_remove(first), free: Arc::clone(free) })
    }
}

impl Drop for LentGpu {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.device.clone());
    }
}

impl Slots {
    /// All free. There is no more than one GPU slot for each of `gpus`.
    pub fn new(plan: SlotPlan, gpus: Vec<GpuDevice>) -> Self {
        let semaphore = |count: u32| Arc::new(Semaphore::new(count as usize));
        Self {
            plan,
            total: semaphore(plan.total),
            cpu: semaphore(plan.cpu),
            gpu: semaphore(plan.gpu),
            free_gpus: Arc::new(Mutex::new(gpus)),
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
        let gpu = match kind {
            SlotKind::Cpu => None,
            SlotKind::Gpu => Some(LentGpu::take(&self.free_gpus)?),
        };
        Some(Slot { gpu, _permit: permit })
    }

    /// Whether there are slots of `kind` at all, or it is the kind that needs nothing special.
    pub fn has(&self, kind: SlotKind) -> bool {
        kind == SlotKind::Cpu || self.plan.gpu > 0
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
    use crate::capabilities::gpu::Vendor;

    #[test]
    fn n_and_never_one_more() {
        let slots = Slots::new(SlotPlan { cpu: 2, gpu: 0, total: 2 }, Vec::new());
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
    fn a_gpu_has_one_job_at_a_time() {
        let gpu = |index| GpuDevice { index, ..GpuDevice::named("A", Vendor::Nvidia) };
        let slots = Slots::new(SlotPlan { cpu: 1, gpu: 2, total: 3 }, vec![gpu(1), gpu(0)]);
        let slot = || slots.slot(SlotKind::Gpu).now_or_never().flatten();
        let index = |slot: &Option<Slot>| slot.as_ref().unwrap().gpu().map(|gpu| gpu.index);
        let (first, second) = (slot(), slot());
        assert_eq!((index(&first), index(&second)), (Some(0), Some(1)));
        assert!(slot().is_none());
        drop(first);
        let third = slot();
        assert_eq!(index(&third), Some(0));
        let beside = slots.slot(SlotKind::Cpu).now_or_never().flatten();
        assert_eq!(index(&beside), None);
        drop((second, third));
        assert_eq!(index(&slot()), Some(0));
    }

    #[test]
    fn kinds_do_not_take_each_others_slots() {
        let slots = Slots::new(SlotPlan { cpu: 1, gpu: 0, total: 1 }, Vec::new());
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
