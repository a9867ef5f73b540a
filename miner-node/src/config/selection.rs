//! "Any" or a list of names. What is being selected, its user knows.

use std::fmt;

use protocol::Name;
use serde::de::{self, SeqAccess};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Any name, or only those of a list: `any` or `[a, b]`; in one value, `a, b`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All names.
    Any,
    /// These; an empty list selects nothing.
    Only(Vec<Name>),
}

impl Selection {
    /// Whether `name` is selected.
    pub fn contains(&self, name: &Name) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Only(names) => {
                let names: Vec<_> = names.iter().map(Name::as_str).collect();
                write!(f, "[{}]", names.join(", "))
            }
        }
    }
}

impl Serialize for Selection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::Only(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Selection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Selection;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"any\" or a list of names")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Selection, E> {
        if text.trim() == "any" {
            return Ok(Selection::Any);
        }
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names
            .map(|name| name.parse().map_err(E::custom))
            .collect::<Result<_, E>>()
            .map(Selection::Only)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Selection, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element()? {
            names.push(name);
        }
        Ok(Selection::Only(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Selection, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn any_a_list_or_one_text() {
        let hash: Name = "hash".parse().unwrap();
        assert_eq!(read("\"any\"").unwrap(), Selection::Any);
        assert_eq!(read("[]").unwrap(), Selection::Only(vec![]));
        assert_eq!(read("[\"hash\"]").unwrap(), Selection::Only(vec![hash.clone()]));
        assert_eq!(read("\"hash, gzip\"").unwrap().to_string(), "[hash, gzip]");
        assert!(read("[\"a b\"]").is_err() && read("3").is_err());
        assert!(read("\"hash, gzip\"").unwrap().contains(&hash));
        assert!(!read("[]").unwrap().contains(&hash));
    }
}
