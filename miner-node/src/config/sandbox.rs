//! The section `sandbox`: how jobs are isolated, as far as an owner can decide that.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sandbox::{DiskTurn, Piece};

/// No machine has more processors.
const MOST_PROCESSORS: usize = 1024;

/// How jobs are isolated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// Parts of the isolation without which no job is run.
    pub require: Vec<Piece>,
    /// Processes and threads that a job may have at once.
    pub max_processes: u32,
    /// Files that each process of a job may have open.
    pub max_open_files: u32,
    /// The first of the user ids that running jobs get, where the node is root.
    pub uid_base: u32,
    /// How many there are; 0: jobs run as the node's user.
    pub uid_count: u32,
    /// When the disk serves jobs.
    pub ionice: DiskTurn,
    /// The processors that jobs may use; absent: all.
    pub cpu_affinity: Option<Processors>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            require: Vec::new(),
            max_processes: 1024,
            max_open_files: 1024,
            // Above what systemd gives to containers (524288 to 1879048191).
            uid_base: 2_000_000_000,
            uid_count: 65_536,
            ionice: DiskTurn::BestEffort,
            cpu_affinity: None,
        }
    }
}

/// Numbers of processors, written as `0-3,6`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processors(Vec<usize>);

impl Processors {
    /// The numbers, each once, in order.
    pub fn numbers(&self) -> &[usize] {
        &self.0
    }
}

impl FromStr for Processors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let number = part.trim().parse::<usize>().ok().filter(|n| *n < MOST_PROCESSORS);
            number.ok_or_else(|| format!("{part:?} is no number of a processor, as in 0-3,6"))
        };
        let mut numbers = Vec::new();
        for part in text.split(',') {
            match part.split_once('-') {
                Some((first, last)) => numbers.extend(number(first)?..=number(last)?),
                None => numbers.push(number(part)?),
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.is_empty() { Err("names no processor".to_owned()) } else { Ok(Self(numbers)) }
    }
}

impl fmt::Display for Processors {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        text.write_str(&numbers.join(","))
    }
}

impl Serialize for Processors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Processors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Processors;
            fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
                text.write_str("numbers of processors, as in 0-3,6")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Processors, E> {
                text.parse().map_err(E::custom)
            }
            // YAML takes a single one for a number.
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Processors, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Processors, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_ranges_and_numbers() {
        let parsed = |text: &str| text.parse::<Processors>();
        assert_eq!(parsed("0-2, 6,1").unwrap().numbers(), [0, 1, 2, 6]);
        assert_eq!(parsed("5").unwrap().to_string(), "5");
        for bad in ["", "x", "3-1", "-1", "0-1024", "1,,2", "99999999999999999999"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<Processors>("3").unwrap().numbers(), [3]);
        assert!(serde_json::from_str::<Processors>("-3").is_err());
    }
}
