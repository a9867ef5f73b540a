//! What the lanes hash with: made when a job needs it, kept over pauses, made ahead for the next
//! seed, given back when the owner wants the memory.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::forge::{self, FAST_NEEDS_BYTES, Forged, Goods, Need, Order, Seed, Stock};
use super::material::{Building, Kept, Material, Next};
use super::{Common, Message, Pages, Settings};
use crate::ghostrider::Plans;
use crate::hasher::Source;
use crate::host::{self, Surplus};
use crate::notice::{Listener, Notice};
use crate::randomx::{Builder, Dataset};

/// How long to wait for lanes to let go of what they had.
const MOMENT: Duration = Duration::from_millis(5);

/// How often it is looked how far a dataset is.
const LOOK: Duration = Duration::from_millis(200);

/// When memory that was scarce is asked for again.
const AGAIN: Duration = Duration::from_secs(60);

/// Two sets of huge pages, for the seed of now and the next, and scratchpads.
const SURPLUS_BYTES: u64 = (2 * (2080 + 256) + 64) << 20;

/// How long another seed has to last before a dataset is thrown away for it: a pool that changes
/// its mind with each job costs pauses, and not a dataset each time.
const SETTLED: Duration = Duration::from_secs(5);

mod next;
mod shown;
#[cfg(test)]
mod tests;

/// What this machine has shown to compute right.
#[derive(Debug, Default)]
struct Tested {
    randomx: bool,
    ghostrider: bool,
}

pub(super) struct Supply {
    common: Arc<Common>,
    settings: Settings,
    listener: Listener,
    inbox: Sender<Message>,
    /// What the jobs of now need.
    wanted: Option<Need>,
    material: Material,
    /// What was needed before, as long as that may come back.
    kept: Option<Kept>,
    next: Next,
    /// When the last one was begun.
    next_begun: Option<Instant>,
    /// What the forge is at: one thing at a time, whatever pools ask for meanwhile.
    in_flight: Option<Need>,
    /// What the lanes have had, and the task from which on they have not: freed on this thread.
    retired: Option<(u64, Source)>,
    /// How each lane computes GhostRider.
    plans: Plans,
    tested: Tested,
    /// Why it cannot go on, and since when.
    failed: Option<(String, Instant)>,
    /// When light mode was begun for lack of memory.
    scarce_since: Option<Instant>,
    /// The permission that lasts as long as there may be huge pages.
    surplus: Option<Surplus>,
    gave_back: bool,
    built: u64,
    took: Option<Duration>,
}

impl Supply {
    pub(super) fn new(
        common: Arc<Common>,
        settings: Settings,
        listener: Listener,
        inbox: Sender<Message>,
    ) -> Self {
        let plans = Plans::tuned(common.hasher.lanes());
        Self {
            common,
            settings,
            listener,
            inbox,
            wanted: None,
            material: Material::None,
            kept: None,
            next: Next::None,
            next_begun: None,
            in_flight: None,
            retired: None,
            plans,
            tested: Tested::default(),
            failed: None,
            scarce_since: None,
            surplus: None,
            gave_back: false,
            built: 0,
            took: None,
        }
    }

    fn tell(&self, notice: &Notice) {
        (self.listener)(notice);
    }

    /// How long nothing has to be looked at.
    pub(super) fn patience(&self) -> Duration {
        match (&self.retired, &self.material) {
            (Some(_), _) => MOMENT,
            (None, Material::Building(_)) => LOOK,
            _ if self.kept.is_some() => LOOK,
            _ => Duration::MAX,
        }
    }

    /// Takes away what the lanes have where it is not what is needed, or exchanges it.
    pub(super) fn prepare_for(&mut self, need: Need) {
        if self.wanted.replace(need) == Some(need) {
            return;
        }
        // That was about something else.
        self.failed = None;
        if self.material.need() == Some(need) {
            return;
        }
        if let Some(kept) = self.kept.take_if(|kept| kept.material.need() == Some(need)) {
            let source = kept.material.source();
            return self.replace(kept.material, source);
        }
        let next = std::mem::take(&mut self.next);
        let (material, source) = match (next, need) {
            (Next::Ready(of, dataset), Need::RandomX(seed)) if of == seed => {
                let source = Source::Fast(dataset);
                (Material::Ready { need, source: source.clone() }, Some(source))
            }
            // The lanes do the rest.
            (Next::Building(of, ahead), Need::RandomX(seed)) if of == seed => {
                let builder = Arc::clone(ahead.builder());
                let source = Source::Building(Arc::clone(&builder));
                (Material::Building(Building::new(seed, builder)), Some(source))
            }
            (Next::Forging(of), Need::RandomX(seed)) if of == seed => {
                (Material::Forging(need), None)
            }
            _ => return self.set_aside(),
        };
        self.replace(material, source);
    }

    /// Takes away what the lanes have; what took long to make is kept for a while.
    fn set_aside(&mut self) {
        if !self.material.is_precious() {
            return self.replace(Material::None, None);
        }
        let task = self.common.hasher.set_source(None);
        let material = std::mem::take(&mut self.material);
        self.let_go_of_kept();
        self.kept = Some(Kept { material, task, since: Instant::now() });
    }

    fn let_go_of_kept(&mut self) {
        if let Some(Kept { material, task, .. }) = self.kept.take() {
            self.retired = material.source().map(|source| (task, source));
        }
    }

    fn replace(&mut self, material: Material, source: Option<Source>) {
        let old = std::mem::replace(&mut self.material, material);
        let task = self.common.hasher.set_source(source);
        let Some(held) = old.source() else { return };
        // One that is still waited for is kept until then by the lanes alone.
        self.retired = Some((task, held));
    }

    /// It cannot go on.
    pub(super) fn failed(&mut self, reason: String) {
        // Each lane tells it.
        if self.failed.as_ref().is_some_and(|(known, _)| *known == reason) {
            return;
        }
        self.tell(&Notice::Warning { text: reason.clone() });
        self.failed = Some((reason, Instant::now()));
    }

    /// What the forge has made.
    pub(super) fn take_in(&mut self, Forged { order, stock }: Forged) {
        self.in_flight = None;
        let need = order.need;
        if !matches!(self.material, Material::Forging(wanted) if wanted == need) {
            // Or something else is needed meanwhile, or the memory was wanted back.
            return self.take_in_ahead(need, stock);
        }
        self.material = Material::None;
        let Stock { goods, warnings } = match stock {
            Ok(stock) => stock,
            // Without the memory for a second one; perhaps there is enough for one alone.
            Err(_) if order.ahead => return,
            Err(reason) => return self.failed(reason),
        };
        for text in warnings {
            self.tell(&Notice::Warning { text });
        }
        let source = match goods {
            Goods::Builder(builder) => return self.build(need, builder),
            Goods::Cache(cache) => {
                self.tested.randomx = true;
                self.scarce_since = (!self.settings.light).then(Instant::now);
                Source::Light(cache)
            }
            Goods::GhostRider => {
                self.tested.ghostrider = true;
                Source::GhostRider(self.plans.clone())
            }
        };
        self.common.hasher.set_source(Some(source.clone()));
        self.material = Material::Ready { need, source };
        self.ready(None);
    }

    fn build(&mut self, need: Need, builder: Builder) {
        let Need::RandomX(seed) = need else { return };
        self.tested.randomx = true;
        self.scarce_since = None;
        let builder = Arc::new(builder);
        self.common.hasher.set_source(Some(Source::Building(Arc::clone(&builder))));
        self.material = Material::Building(Building::new(seed, builder));
        self.tell(&Notice::Preparing { ahead: false });
    }

    /// Does what can be done next.
    pub(super) fn advance(&mut self, needs: Option<(Need, Option<Seed>)>) {
        if self.kept.as_ref().is_some_and(|kept| kept.since.elapsed() >= SETTLED) {
            self.let_go_of_kept();
        }
        let hasher = &self.common.hasher;
        if self.retired.as_ref().is_some_and(|(task, _)| hasher.has_taken_over(*task)) {
            self.retired = None;
        }
        let (threads, give_back) = {
            let seating = self.common.seating();
            (seating.threads(), seating.allowance.give_memory_back)
        };
        if give_back {
            return self.give_back();
        }
        self.gave_back = false;
        let Some((need, next)) = needs else { return };
        if threads == 0 {
            return self.look(false);
        }
        if self.failed.as_ref().is_some_and(|(_, since)| since.elapsed() < AGAIN) {
            return;
        }
        // Tried anew.
        self.failed = None;
        let clear = self.retired.is_none() && self.kept.is_none() && self.in_flight.is_none();
        match &self.material {
            Material::None if clear => self.order(need),
            Material::None | Material::Forging(_) => {}
            Material::Building(_) => self.look(true),
            Material::Ready { .. } => {
                self.look_ahead(need, next);
                self.widen();
            }
        }
    }

    fn give_back(&mut self) {
        self.next = Next::None;
        self.let_go_of_kept();
        if !matches!(self.material, Material::None) {
            self.replace(Material::None, None);
        }
        let gone = self.retired.is_none() && self.in_flight.is_none();
        if gone && !self.gave_back {
            self.gave_back = true;
            self.tell(&Notice::GivenBack);
        }
    }

    fn order(&mut self, need: Need) {
        if self.settings.pages == Pages::Surplus && self.surplus.is_none() {
            match Surplus::permit(SURPLUS_BYTES) {
                Ok(permission) => self.surplus = Some(permission),
                Err(error) => {
                    let text = format!("no surplus huge pages: {error}");
                    self.tell(&Notice::Warning { text });
                    self.settings.pages = Pages::Transparent;
                }
            }
        }
        match self.forge(need, false) {
            Ok(()) => self.material = Material::Forging(need),
            Err(error) => self.failed(format!("cannot start a thread: {error}")),
        }
    }

    fn forge(&mut self, need: Need, ahead: bool) -> io::Result<()> {
        let tested = match need {
            Need::RandomX(_) => self.tested.randomx,
            Need::GhostRider => self.tested.ghostrider,
        };
        let order = Order { need, settings: self.settings.clone(), ahead, test: !tested };
        forge::start(order, &self.common, self.inbox.clone())?;
        self.in_flight = Some(need);
        Ok(())
    }

    /// How far the lanes are with the dataset.
    fn look(&mut self, working: bool) {
        let Material::Building(building) = &mut self.material else { return };
        let since = std::mem::replace(&mut building.looked, Instant::now()).elapsed();
        building.took += if working { since } else { Duration::ZERO };
        let took = building.took;
        if let Some(dataset) = building.builder.finish() {
            return self.built(dataset, took);
        }
        let percent = building.builder.done_permille() / 10;
        if percent >= building.told + 10 {
            building.told = percent;
            self.tell(&Notice::Dataset { percent });
        }
    }

    fn built(&mut self, dataset: Dataset, took: Duration) {
        let Some(need) = self.material.need() else { return };
        let slow = dataset.pages().is_slow();
        let source = Source::Fast(dataset);
        // In place of the builder, which keeps the cache's memory.
        self.replace(Material::Ready { need, source: source.clone() }, Some(source));
        self.built += 1;
        self.took = Some(took);
        if slow {
            let text = "the dataset lies on small pages: expect 0.6 of the best hashrate \
                        (see /sys/kernel/mm/transparent_hugepage/enabled)";
            self.tell(&Notice::Warning { text: text.to_owned() });
        }
        self.ready(Some(took));
    }

    fn ready(&self, took: Option<Duration>) {
        let mut board = self.common.board();
        self.show(&mut board);
        let in_force = board.in_force(self.common.hasher.lanes() - self.common.hasher.parked());
        drop(board);
        self.tell(&Notice::Ready { in_force, took });
    }

    /// From light to fast, once there is memory.
    fn widen(&mut self) {
        let light = matches!(self.material, Material::Ready { source: Source::Light(_), .. });
        if light && self.scarce_since.is_some_and(|since| since.elapsed() >= AGAIN) {
            self.scarce_since = Some(Instant::now());
            if host::available_bytes() >= FAST_NEEDS_BYTES {
                self.scarce_since = None;
                self.replace(Material::None, None);
            }
        }
    }
}

impl Building {
    fn new(seed: Seed, builder: Arc<Builder>) -> Self {
        Self { seed, builder, took: Duration::ZERO, looked: Instant::now(), told: 0 }
    }
}
