//! How many jobs run at once: slots of both kinds, and a limit over all. A GPU slot is one GPU, which
//! no other job has meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::job::SlotKind;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::capabilities::GpuDevice;
use crate::config::SlotPlan;

/// The slots of a node.
#[derive(Debug)]
pub struct Slots {
    plan: SlotPlan,
    total: Arc<Semaphore>,
    cpu: Arc<Semaphore>,
    gpus: Arc<Gpus>,
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
    gpu: Option<LentGpu>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// The GPUs, and which of them no job has.
#[derive(Debug)]
struct Gpus {
    /// How many may be lent at once.
    most: usize,
    /// The memory of the largest, in MiB.
    largest_mb: u32,
    all: Vec<GpuDevice>,
    stock: Mutex<Stock>,
    changed: Notify,
}

#[derive(Debug)]
struct Stock {
    free: Vec<GpuDevice>,
    lent: usize,
    /// Who waits, in the order in which they came, and the memory that each needs, in MiB.
    queue: BTreeMap<u64, u32>,
    next: u64,
}

/// A turn in the queue for a GPU, until it is dropped.
#[derive(Debug)]
struct Turn<'a> {
    gpus: &'a Arc<Gpus>,
    number: u64,
}

/// A GPU that one job has; given back when dropped.
#[derive(Debug)]
struct LentGpu {
    device: GpuDevice,
    gpus: Arc<Gpus>,
}

impl Slot {
    /// The GPU, of a GPU slot.
    pub fn gpu(&self) -> Option<&GpuDevice> {
        self.gpu.as_ref().map(|lent| &lent.device)
    }
}

impl Gpus {
    fn new(most: u32, free: Vec<GpuDevice>) -> Self {
        Self {
            most: most as usize,
            largest_mb: free.iter().map(|gpu| gpu.vram_total_mb).max().unwrap_or(0),
            all: free.clone(),
            stock: Mutex::new(Stock { free, lent: 0, queue: BTreeMap::new(), next: 0 }),
            changed: Notify::new(),
        }
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn lend(self: &Arc<Self>, vram_mb: u32) -> LentGpu {
        let turn = Turn::new(self, vram_mb);
        loop {
            // Listening before looking: one that comes back in between is not missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(lent) = turn.take() {
                return lent;
            }
            changed.await;
        }
    }
}

impl Stock {
    /// Of `free`, the smallest that has `vram_mb`: larger ones are left to those who need them.
    fn best(free: &[GpuDevice], vram_mb: u32) -> Option<usize> {
        let fits = free.iter().enumerate().filter(|(_, gpu)| gpu.vram_total_mb >= vram_mb);
        fits.min_by_key(|(_, gpu)| (gpu.vram_total_mb, gpu.index)).map(|(best, _)| best)
    }

    /// The one for the turn `number`, once all who came before have what they can have now. Who can
    /// have none of those that are free holds nobody up.
    fn take(&mut self, number: u64, most: usize) -> Option<GpuDevice> {
        let (mut free, mut lent) = (self.free.clone(), self.lent);
        for (turn, vram_mb) in self.queue.range(..=number) {
            let best = if lent < most { Self::best(&free, *vram_mb) } else { None };
            let Some(device) = best.map(|best| free.swap_remove(best)) else { continue };
            lent += 1;
            if *turn == number {
                self.free.retain(|gpu| gpu.index != device.index);
                self.lent += 1;
                return Some(device);
            }
        }
        None
    }
}

impl<'a> Turn<'a> {
    fn new(gpus: &'a Arc<Gpus>, vram_mb: u32) -> Self {
        let mut stock = gpus.stock();
        let number = stock.next;
        stock.next += 1;
        stock.queue.insert(number, vram_mb);
        Self { gpus, number }
    }

    fn take(&self) -> Option<LentGpu> {
        let device = self.gpus.stock().take(self.number, self.gpus.most)?;
        Some(LentGpu { device, gpus: Arc::clone(self.gpus) })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.gpus.stock().queue.remove(&self.number);
        // What was kept for it is there for the others.
        self.gpus.changed.notify_waiters();
    }
}

impl Drop for LentGpu {
    fn drop(&mut self) {
        let mut stock = self.gpus.stock();
        stock.free.push(self.device.clone());
        stock.lent -= 1;
        drop(stock);
        self.gpus.changed.notify_waiters();
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
            gpus: Arc::new(Gpus::new(plan.gpu, gpus)),
            waiting: AtomicU32::new(0),
        }
    }

    /// Waits until one more job may be taken in. `None` never happens while the slots exist.
    pub async fn place(&self) -> Option<Place> {
        let permit = Arc::clone(&self.total).acquire_owned().await.ok()?;
        Some(Place { _permit: permit })
    }

    /// Waits for a slot of `kind`, of GPUs for one that has `vram_mb`; `None` where the node has
    /// none of it.
    pub async fn slot(&self, kind: SlotKind, vram_mb: u32) -> Option<Slot> {
        let _waiting = Waiting::new(&self.waiting);
        match kind {
            SlotKind::Cpu if self.plan.cpu > 0 => {
                let permit = Arc::clone(&self.cpu).acquire_owned().await.ok()?;
                Some(Slot { gpu: None, _permit: Some(permit) })
            }
            SlotKind::Gpu if self.plan.gpu > 0 && vram_mb <= self.gpus.largest_mb => {
                Some(Slot { gpu: Some(self.gpus.lend(vram_mb).await), _permit: None })
            }
            SlotKind::Cpu | SlotKind::Gpu => None,
        }
    }

    /// The memory of the largest GPU, in MiB.
    pub fn largest_vram_mb(&self) -> u32 {
        self.gpus.largest_mb
    }

    /// The GPUs that have `vram_mb`, whoever has them now.
    pub fn gpus(&self, vram_mb: u32) -> impl Iterator<Item = &GpuDevice> {
        self.gpus.all.iter().filter(move |gpu| gpu.vram_total_mb >= vram_mb)
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
        let slot = || slots.slot(SlotKind::Gpu, 0).now_or_never().flatten();
        let index = |slot: &Option<Slot>| slot.as_ref().unwrap().gpu().map(|gpu| gpu.index);
        let (first, second) = (slot(), slot());
        assert_eq!((index(&first), index(&second)), (Some(0), Some(1)));
        assert!(slot().is_none());
        drop(first);
        let third = slot();
        assert_eq!(index(&third), Some(0));
        let beside = slots.slot(SlotKind::Cpu, 0).now_or_never().flatten();
        assert_eq!(index(&beside), None);
        drop((second, third));
        assert_eq!(index(&slot()), Some(0));
    }

    #[test]
    fn the_smallest_gpu_that_is_large_enough() {
        let gpu = |index, vram_total_mb| GpuDevice {
            index,
            vram_total_mb,
            ..GpuDevice::named("A", Vendor::Nvidia)
        };
        let gpus = vec![gpu(0, 80_000), gpu(1, 8_000), gpu(2, 24_000)];
        let slots = Slots::new(SlotPlan { cpu: 1, gpu: 2, total: 3 }, gpus);
        let slot = |vram_mb| slots.slot(SlotKind::Gpu, vram_mb).now_or_never();
        let index = |slot: &Slot| slot.gpu().map(|gpu| gpu.index);
        assert!(matches!(slot(80_001), Some(None)));
        let medium = slot(10_000).flatten().unwrap();
        assert_eq!(index(&medium), Some(2));
        let any = slot(0).flatten().unwrap();
        assert_eq!(index(&any), Some(1));
        // Two at once are what the owner gives, though a third is there.
        let mut large = Box::pin(slots.slot(SlotKind::Gpu, 50_000));
        assert!(large.as_mut().now_or_never().is_none());
        drop(any);
        assert_eq!(index(&large.now_or_never().flatten().unwrap()), Some(0));
        // One that is too small is no help to who waits.
        let mut again = Box::pin(slots.slot(SlotKind::Gpu, 20_000));
        let small = slot(0).flatten().unwrap();
        assert_eq!(index(&small), Some(1));
        assert!(again.as_mut().now_or_never().is_none());
        drop(medium);
        assert_eq!(index(&again.now_or_never().flatten().unwrap()), Some(2));
    }

    /// Who came last looks first.
    #[test]
    fn nobody_takes_the_gpu_that_somebody_waits_for() {
        let gpus = [80_000, 8_000].into_iter().zip(0..).map(|(vram_total_mb, index)| GpuDevice {
            index,
            vram_total_mb,
            ..GpuDevice::named("A", Vendor::Nvidia)
        });
        let slots = Slots::new(SlotPlan { cpu: 0, gpu: 2, total: 4 }, gpus.collect());
        let slot = |vram_mb| Box::pin(slots.slot(SlotKind::Gpu, vram_mb));
        let lent = slot(80_000).now_or_never().flatten();
        let mut large = slot(20_000);
        assert!(large.as_mut().now_or_never().is_none());
        // The small one is of no use to who waits.
        let small = slot(0).now_or_never().flatten().unwrap();
        assert_eq!(small.gpu().map(|gpu| gpu.index), Some(1));
        drop(lent);
        let mut last = slot(0);
        assert!(last.as_mut().now_or_never().is_none());
        drop(small);
        // There is one for each now, and for the earlier one only that which it can use.
        assert_eq!(last.now_or_never().flatten().unwrap().gpu().map(|gpu| gpu.index), Some(1));
        let mut next = slot(50_000);
        assert!(next.as_mut().now_or_never().is_none());
        // Who does not wait any more keeps nothing.
        drop(large);
        assert!(next.now_or_never().flatten().is_some());
    }

    #[test]
    fn kinds_do_not_take_each_others_slots() {
        let slots = Slots::new(SlotPlan { cpu: 1, gpu: 0, total: 1 }, Vec::new());
        assert!(matches!(slots.slot(SlotKind::Gpu, 0).now_or_never(), Some(None)));
        let held = slots.slot(SlotKind::Cpu, 0).now_or_never().flatten();
        assert!(held.is_some());
        let mut next = Box::pin(slots.slot(SlotKind::Cpu, 0));
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(slots.waiting(), 1);
        drop(held);
        assert!(next.now_or_never().flatten().is_some());
        assert_eq!(slots.waiting(), 0);
    }
}
