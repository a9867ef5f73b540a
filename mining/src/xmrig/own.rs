//! What an XMRig is like by itself: how many threads it has where, and whether it is paused. That of
//! the owner gets it back, also where the node that changed it did not live to do so.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::processors;

/// The longest file that is read, in bytes.
const LONGEST_FILE: usize = 1 << 20;

/// How many of the lists that it was given are remembered.
const MOST_GIVEN: usize = 8;

/// What is known of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Own {
    /// Where its API is: another one has other threads.
    url: String,
    /// Whether it was paused before it was touched; `None` until it has said so.
    pub(super) paused: Option<bool>,
    /// Its threads, by algorithm.
    lists: BTreeMap<String, List>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct List {
    own: Vec<Value>,
    /// What it was given instead, the newest last: whether it took the last ones is not certain.
    given: Vec<Vec<Value>>,
    /// Whether it was compared with what it has, in this life.
    #[serde(skip)]
    is_seen: bool,
}

impl Own {
    /// Of one that is started here, and has these processors, one thread on each.
    pub(super) fn started(processors: &[usize]) -> Self {
        let list = |of: fn(&usize) -> Value| {
            let own = processors.iter().map(of).collect();
            List { own, given: Vec::new(), is_seen: true }
        };
        // Eight hashes at once, as XMRig has it by itself, too.
        let (randomx, ghostrider) = (list(|at| json!(at)), list(|at| json!([8, at])));
        let lists = [("rx/0", randomx), ("gr", ghostrider.clone()), ("ghostrider", ghostrider)];
        let lists = lists.map(|(algo, list)| (algo.to_owned(), list)).into();
        Self { lists, ..Self::default() }
    }

    /// Of one that runs at `url`: what an earlier life has written down, if it did.
    pub(super) fn kept(file: &Path, url: &str) -> Self {
        let known = fs::read(file).ok().filter(|text| text.len() <= LONGEST_FILE);
        let known = known.and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        let nothing = || Self { url: url.to_owned(), ..Self::default() };
        known.filter(|own| own.url == url).unwrap_or_else(nothing)
    }

    /// Writes it down.
    pub(super) fn keep(&self, file: &Path) -> io::Result<()> {
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        let part = file.with_extension("part");
        fs::write(&part, serde_json::to_vec(self)?)?;
        fs::rename(part, file)
    }

    /// Its threads for this algorithm, if they are known.
    pub(super) fn list(&self, algo: &str) -> Option<&[Value]> {
        self.lists.get(algo).filter(|list| list.is_seen).map(|list| list.own.as_slice())
    }

    /// Takes in what its configuration says of them.
    pub(super) fn learn(&mut self, algo: &str, config: &Value) {
        let now = processors::list(config, algo).unwrap_or_default();
        let list = self.lists.entry(algo.to_owned()).or_default();
        // Otherwise it still has what an earlier life gave it.
        if !list.given.contains(&now) {
            *list = List { own: now, ..List::default() };
        }
        list.is_seen = true;
    }

    /// It is about to get these instead.
    pub(super) fn give(&mut self, algo: &str, given: Vec<Value>) {
        if let Some(list) = self.lists.get_mut(algo) {
            list.given.retain(|known| *known != given);
            list.given.push(given);
            let surplus = list.given.len().saturating_sub(MOST_GIVEN);
            list.given.drain(..surplus);
        }
    }

    /// Puts its own threads back, wherever it still has what it was given. Says whether there were
    /// any.
    pub(super) fn restore(&self, config: &mut Value) -> bool {
        let mut changed = false;
        for (algo, list) in &self.lists {
            let now = processors::list(config, algo).unwrap_or_default();
            if list.given.contains(&now) && now != list.own {
                processors::put(config, algo, list.own.clone());
                changed = true;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(list: &Value) -> Value {
        json!({ "cpu": { "rx": list } })
    }

    #[test]
    fn what_an_earlier_life_gave_is_not_taken_for_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("state/xmrig.json");
        let mut own = Own::kept(&file, "http://127.0.0.1:1/");
        own.learn("rx/0", &config(&json!([0, 1])));
        own.give("rx/0", vec![json!(1)]);
        own.keep(&file).unwrap();

        let mut later = Own::kept(&file, "http://127.0.0.1:1/");
        assert_eq!(later.list("rx/0"), None);
        later.learn("rx/0", &config(&json!([1])));
        assert_eq!(later.list("rx/0"), Some(&[json!(0), json!(1)][..]));
        let mut now = config(&json!([1]));
        assert!(later.restore(&mut now));
        assert_eq!(now, config(&json!([0, 1])));
        assert!(!later.restore(&mut now));
        // What the owner has changed since is the owner's.
        later.learn("rx/0", &config(&json!([0])));
        assert_eq!(later.list("rx/0"), Some(&[json!(0)][..]));
        assert!(!later.restore(&mut config(&json!([0]))));
        assert_eq!(Own::kept(&file, "http://127.0.0.1:2/").list("rx/0"), None);
        fs::write(&file, "{").unwrap();
        assert_eq!(Own::kept(&file, "u").paused, None);
    }
}
