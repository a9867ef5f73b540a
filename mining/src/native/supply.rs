//! What the lanes hash with: made when a job needs it, kept over pauses, made ahead for the next
//! seed, given back when the owner wants the memory.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::ahead::Ahead;
use super::board::Board;
use super::forge::{self, FAST_NEEDS_BYTES, Forged, Goods, Need, Order, Seed, Stock};
use super::material::{Building, CACHE_BYTES, Material, Next, source_bytes};
use super::{Common, Message, Pages, Settings};
use crate::engine::Phase;
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
    material: Material,
    next: Next,
    /// What the lanes have had, and the task from which on they have not: freed on this thread.
    retired: Option<(u64, Source)>,
    /// How each lane computes GhostRider.
    plans: Plans,
    /// Whether the forge is at work: one order at a time, since each takes memory, and none can be
    /// called back.
    forging: bool,
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
            material: Material::None,
            next: Next::None,
            retired: None,
            plans,
            forging: false,
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
            _ => Duration::MAX,
        }
    }

    /// Takes away what the lanes have where it is not what is needed, or exchanges it.
    pub(super) fn prepare_for(&mut self, need: Need) {
        if self.material.need() == Some(need) {
            return;
        }
        let Need::RandomX(seed) = need else { return self.replace(Material::None, None) };
        let next = std::mem::take(&mut self.next);
        let (material, source) = match next {
            Next::Ready(of, dataset) if of == seed => {
                let source = Source::Fast(dataset);
                (Material::Ready { need, source: source.clone() }, Some(source))
            }
            // The lanes do the rest.
            Next::Building(of, ahead) if of == seed => {
                let builder = Arc::clone(ahead.builder());
                let source = Source::Building(Arc::clone(&builder));
                (Material::Building(Building::new(seed, builder)), Some(source))
            }
            _ => (Material::None, None),
        };
        self.replace(material, source);
    }

    fn replace(&mut self, material: Material, source: Option<Source>) {
        let old = std::mem::replace(&mut self.material, material);
        let task = self.common.hasher.set_source(source);
        let held = match old {
            Material::None | Material::Forging(_) => return,
            Material::Building(building) => Source::Building(building.builder),
            Material::Ready { source, .. } => source,
        };
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
        self.forging = false;
        let need = order.need;
        if let (true, Need::RandomX(seed)) = (order.ahead, need) {
            self.take_in_ahead(seed, stock);
            return;
        }
        if !matches!(self.material, Material::Forging(wanted) if wanted == need) {
            // Something else is needed meanwhile, or the memory was wanted back.
            return;
        }
        self.material = Material::None;
        let Stock { goods, warnings } = match stock {
            Ok(stock) => stock,
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
        let builder = Arc::new(builder);
        self.common.hasher.set_source(Some(Source::Building(Arc::clone(&builder))));
        self.material = Material::Building(Building::new(seed, builder));
        self.tell(&Notice::Preparing { ahead: false });
    }

    fn take_in_ahead(&mut self, seed: Seed, stock: Result<Stock, String>) {
        if !matches!(&self.next, Next::Forging(of) if *of == seed) {
            return;
        }
        let begun = match stock.map(|stock| stock.goods) {
            Ok(Goods::Builder(builder)) => Ahead::start(builder, &self.common.leave).ok(),
            _ => None,
        };
        self.next = match begun {
            Some(ahead) => Next::Building(seed, ahead),
            None => Next::Refused(seed, Instant::now()),
        };
        if matches!(self.next, Next::Building(..)) {
            self.tell(&Notice::Preparing { ahead: true });
        }
    }

    /// Does what can be done next.
    pub(super) fn advance(&mut self, needs: Option<(Need, Option<Seed>)>) {
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
        if self.failed.take().is_some() {
            // Begun anew.
            self.replace(Material::None, None);
        }
        match &self.material {
            Material::None if self.retired.is_none() && !self.forging => self.order(need),
            Material::None | Material::Forging(_) => {}
            Material::Building(_) => self.look(true),
            Material::Ready { .. } => {
                self.look_ahead(need, next);
                self.widen();
            }
        }
    }

    fn give_back(&mut self) {
        let nothing = matches!(self.material, Material::None) && self.retired.is_none();
        if nothing && matches!(self.next, Next::None) {
            if !self.gave_back && !self.forging {
                self.gave_back = true;
                self.tell(&Notice::GivenBack);
            }
            return;
        }
        self.next = Next::None;
        if !matches!(self.material, Material::None) {
            self.replace(Material::None, None);
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
        self.material = Material::Forging(need);
        self.forge(need, false);
    }

    fn forge(&mut self, need: Need, ahead: bool) {
        let tested = match need {
            Need::RandomX(_) => self.tested.randomx,
            Need::GhostRider => self.tested.ghostrider,
        };
        let order = Order { need, settings: self.settings.clone(), ahead, test: !tested };
        match forge::start(order, self.inbox.clone()) {
            Ok(()) => self.forging = true,
            Err(error) => self.failed(format!("cannot start a thread: {error}")),
        }
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

    fn look_ahead(&mut self, need: Need, next: Option<Seed>) {
        if let Next::Building(of, ahead) = &self.next
            && let Some(dataset) = ahead.builder().finish()
        {
            self.next = Next::Ready(*of, dataset);
            self.built += 1;
        }
        let Some(next) = next.filter(|next| Need::RandomX(*next) != need) else { return };
        let again = match &self.next {
            Next::Refused(of, since) if *of == next => since.elapsed() >= AGAIN,
            other => other.seed() != Some(&next),
        };
        if again && self.material.is_fast() && !self.forging {
            self.next = Next::Forging(next);
            self.forge(Need::RandomX(next), true);
        }
    }

    /// From light to fast, once there is memory.
    fn widen(&mut self) {
        if self.scarce_since.is_some_and(|since| since.elapsed() >= AGAIN) {
            self.scarce_since = Some(Instant::now());
            if host::available_bytes() >= FAST_NEEDS_BYTES {
                self.scarce_since = None;
                self.replace(Material::None, None);
            }
        }
    }

    pub(super) fn phase(&self) -> Phase {
        if let Some((reason, _)) = &self.failed {
            return Phase::Failed { reason: reason.clone() };
        }
        match &self.material {
            Material::None | Material::Forging(_) => Phase::Preparing { done_permille: 0 },
            Material::Building(building) => {
                Phase::Preparing { done_permille: building.builder.done_permille() }
            }
            Material::Ready { .. } => Phase::Mining,
        }
    }

    pub(super) fn show(&self, board: &mut Board) {
        let retired = self.retired.as_ref().map_or(0, |(_, source)| source_bytes(source));
        let forge = if self.forging { CACHE_BYTES } else { 0 };
        board.memory_bytes = self.material.bytes() + self.next.bytes() + retired + forge;
        (board.datasets_built, board.dataset_took) = (self.built, self.took);
        match &self.material {
            Material::Ready { source: Source::Fast(dataset), .. } => {
                board.mode = "fast mode";
                let (pages, mode) = (dataset.pages(), dataset.mode());
                board.compute = format!("pages {pages}, {mode}");
            }
            Material::Ready { source: Source::Light(cache), .. } => {
                board.mode = "light mode";
                board.compute = cache.mode().to_string();
            }
            Material::Ready { source: Source::GhostRider(plans), .. } => {
                board.mode = "";
                board.compute = plans.to_string();
            }
            _ => board.compute.clear(),
        }
    }
}

impl Building {
    fn new(seed: Seed, builder: Arc<Builder>) -> Self {
        Self { seed, builder, took: Duration::ZERO, looked: Instant::now(), told: 0 }
    }
}
