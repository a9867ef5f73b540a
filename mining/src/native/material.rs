//! What the lanes hash with, and how it comes about and goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ahead::Ahead;
use super::forge::{Need, Seed};
use crate::hasher::Source;
use crate::randomx::{Builder, Dataset};

const CACHE_BYTES: u64 = 256 << 20;
const DATASET_BYTES: u64 = 2080 << 20;

/// What the lanes have, or will have.
#[derive(Debug, Default)]
pub(super) enum Material {
    /// Nothing.
    #[default]
    None,
    /// It is being made.
    Forging(Need),
    /// The lanes build a dataset.
    Building(Building),
    /// It can be hashed.
    Ready { need: Need, source: Source },
}

/// A dataset that is being built.
#[derive(Debug)]
pub(super) struct Building {
    pub(super) seed: Seed,
    pub(super) builder: Arc<Builder>,
    /// How long it was worked on.
    pub(super) took: Duration,
    pub(super) looked: Instant,
    /// What was told last, in percent.
    pub(super) told: u64,
}

/// What is made for the seed that comes next.
#[derive(Default)]
pub(super) enum Next {
    /// Nothing.
    #[default]
    None,
    /// A cache of this seed is being made.
    Forging(Seed),
    /// One thread builds the dataset.
    Building(Seed, Ahead),
    /// It is there.
    Ready(Seed, Dataset),
    /// There was no memory for it at that time.
    Refused(Seed),
}

/// What the lanes had for another seed.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) material: Material,
    /// The task from which on they do not have it.
    pub(super) task: u64,
    /// When that began.
    pub(super) since: Instant,
}

impl Material {
    /// What it is for.
    pub(super) const fn need(&self) -> Option<Need> {
        match self {
            Self::None => None,
            Self::Forging(need) | Self::Ready { need, .. } => Some(*need),
            Self::Building(building) => Some(Need::RandomX(building.seed)),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            // What is being made is counted with the forge.
            Self::None | Self::Forging(_) => 0,
            Self::Building(building) => CACHE_BYTES + written(&building.builder),
            Self::Ready { source, .. } => source_bytes(source),
        }
    }

    /// What the lanes get of it.
    pub(super) fn source(&self) -> Option<Source> {
        match self {
            Self::None | Self::Forging(_) => None,
            Self::Building(building) => Some(Source::Building(Arc::clone(&building.builder))),
            Self::Ready { source, .. } => Some(source.clone()),
        }
    }

    /// Whether it takes long to make.
    pub(super) const fn is_precious(&self) -> bool {
        matches!(self, Self::Building(_)) || self.is_fast()
    }

    pub(super) const fn is_fast(&self) -> bool {
        matches!(self, Self::Ready { source: Source::Fast(_), .. })
    }
}

impl Next {
    pub(super) const fn seed(&self) -> Option<&Seed> {
        match self {
            Self::None => None,
            Self::Forging(seed)
            | Self::Building(seed, _)
            | Self::Ready(seed, _)
            | Self::Refused(seed) => Some(seed),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            // What is being forged is counted with the forge.
            Self::None | Self::Refused(_) | Self::Forging(_) => 0,
            Self::Building(_, ahead) => CACHE_BYTES + written(ahead.builder()),
            Self::Ready(..) => DATASET_BYTES,
        }
    }
}

/// What the forge holds meanwhile, in bytes.
pub(super) const fn forging_bytes(need: Need) -> u64 {
    match need {
        Need::RandomX(_) => CACHE_BYTES,
        Need::GhostRider => 0,
    }
}

/// What a source holds, in bytes.
pub(super) fn source_bytes(source: &Source) -> u64 {
    match source {
        Source::Light(_) => CACHE_BYTES,
        Source::Building(builder) => CACHE_BYTES + written(builder),
        Source::Fast(_) => DATASET_BYTES,
        // Scratchpads are counted with the lanes.
        Source::GhostRider(_) => 0,
    }
}

fn written(builder: &Builder) -> u64 {
    DATASET_BYTES / 1000 * builder.done_permille()
}
