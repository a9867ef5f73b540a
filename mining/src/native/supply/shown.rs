//! How it stands, for those who ask.

use super::Supply;
use crate::engine::Phase;
use crate::hasher::Source;
use crate::native::board::Board;
use crate::native::material::{Material, forging_bytes, source_bytes};

impl Supply {
    pub(in crate::native) fn phase(&self) -> Phase {
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

    pub(in crate::native) fn show(&self, board: &mut Board) {
        let retired = self.retired.as_ref().map_or(0, |(_, source)| source_bytes(source));
        let kept = self.kept.as_ref().map_or(0, |kept| kept.material.bytes());
        let forging = self.in_flight.map_or(0, forging_bytes);
        let held = self.material.bytes() + kept + self.next.bytes() + retired + forging;
        board.memory_bytes = held + self.common.hasher.scratchpad_bytes();
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
