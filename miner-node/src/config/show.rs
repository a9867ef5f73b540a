//! Printing a configuration: as YAML that can be read back, or as JSON. Secrets are `***`.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::keys::KEYS;
use super::load::Loaded;

/// As YAML, with every key, and with where each was set as a comment if `with_origins`.
pub fn yaml(loaded: &Loaded, with_origins: bool) -> String {
    let tree = tree(loaded);
    let mut text = String::new();
    let mut open: Vec<&str> = Vec::new();
    for key in KEYS {
        let parts: Vec<&str> = key.path.split('.').collect();
        let Some((leaf, sections)) = parts.split_last() else { continue };
        let shared = open.iter().zip(sections).take_while(|(a, b)| a == b).count();
        open.truncate(shared);
        for section in &sections[shared..] {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{:indent$}{section}:", "", indent = 2 * open.len());
            open.push(section);
        }
        let _ = write!(
            text,
            "{:indent$}{leaf}: {}",
            "",
            value_at(&tree, key.path),
            indent = 2 * open.len()
        );
        if with_origins {
            let _ = write!(text, "  # {}", loaded.origin(key.path));
        }
        text.push('\n');
    }
    text
}

/// As JSON: nested as in the YAML file, or, with origins, one object per key.
pub fn json(loaded: &Loaded, with_origins: bool) -> Value {
    let tree = tree(loaded);
    if !with_origins {
        return tree;
    }
    let describe = |path: &str| json!({"value": value_at(&tree, path), "origin": loaded.origin(path).to_string()});
    Value::Object(
        KEYS.iter().map(|key| (key.path.to_owned(), describe(key.path))).collect::<Map<_, _>>(),
    )
}

fn tree(loaded: &Loaded) -> Value {
    // A struct of texts, numbers and lists always becomes a value.
    serde_json::to_value(&loaded.config).unwrap_or_default()
}

fn value_at<'a>(tree: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(tree, |value, part| &value[part])
}
