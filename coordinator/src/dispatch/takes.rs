//! Which classes each miner can take: worked out once per miner and class, and kept.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::matching::{self, Needs};
use crate::miners::Miner;

/// Above this many miners, those that do not wait are forgotten.
const KEEP: usize = 100_000;

/// What is known of all miners that asked.
#[derive(Debug, Default)]
pub(super) struct Takes {
    miners: HashMap<i64, Known>,
}

#[derive(Debug)]
struct Known {
    miner: Arc<Miner>,
    /// Of which list of classes, and how much of it is worked out.
    generation: u64,
    checked: usize,
    classes: HashSet<i32>,
}

/// All classes in the order in which they became known; a new generation starts a new list.
#[derive(Debug, Default)]
pub(super) struct Classes {
    generation: u64,
    list: Vec<(i32, Arc<Needs>)>,
    by_id: HashMap<i32, Arc<Needs>>,
}

impl Classes {
    /// Adds a class, if it is new.
    pub fn insert(&mut self, class: i32, needs: Needs) {
        self.by_id.entry(class).or_insert_with(|| {
            let needs = Arc::new(needs);
            self.list.push((class, Arc::clone(&needs)));
            needs
        });
    }

    pub fn get(&self, class: i32) -> Option<&Arc<Needs>> {
        self.by_id.get(&class)
    }

    pub fn contains(&self, class: i32) -> bool {
        self.by_id.contains_key(&class)
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Forgets all: most of them have no jobs any more.
    pub fn clear(&mut self) {
        self.generation += 1;
        self.list.clear();
        self.by_id.clear();
    }
}

impl Takes {
    /// Brings what is known of a miner up to date.
    pub fn study(&mut self, miner: &Arc<Miner>, classes: &Classes) {
        let known = self.miners.entry(miner.no).or_insert_with(|| Known {
            miner: Arc::clone(miner),
            generation: classes.generation,
            checked: 0,
            classes: HashSet::new(),
        });
        let same = Arc::ptr_eq(&known.miner, miner) || known.miner == *miner;
        if !same || known.generation != classes.generation {
            known.miner = Arc::clone(miner);
            known.generation = classes.generation;
            known.checked = 0;
            known.classes.clear();
        }
        let new = classes.list.get(known.checked..).unwrap_or_default();
        let fits = |(_, needs): &&(i32, Arc<Needs>)| matching::unmet(needs, miner).is_none();
        known.classes.extend(new.iter().filter(fits).map(|(class, _)| *class));
        known.checked = classes.list.len();
    }

    /// Whether a miner that was studied can take a class.
    pub fn can_take(&self, miner: &Miner, class: i32) -> bool {
        self.miners.get(&miner.no).is_some_and(|known| known.classes.contains(&class))
    }

    /// Forgets miners that do not wait, once there are many.
    pub fn tidy(&mut self, waiting: impl FnOnce() -> HashSet<i64>) {
        if self.miners.len() > KEEP {
            let waiting = waiting();
            self.miners.retain(|no, _| waiting.contains(no));
        }
    }
}
