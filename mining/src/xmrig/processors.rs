//! The processors in XMRig's own configuration: `"rx": [0, 1]`, `"gr": [[8, 0], [8, 1]]`.

use serde_json::{Value, json};

/// The lists under which XMRig keeps the threads of an algorithm, the one that counts most first.
fn names(algo: &str) -> [&str; 2] {
    match algo.split_once('/') {
        // `rx/0` is kept as `rx`, `rx/wow` as itself, or as `rx` too.
        Some((family, _)) => [algo, family],
        None => [algo, if algo == "gr" { "ghostrider" } else { algo }],
    }
}

/// The list for an algorithm.
pub(super) fn list(config: &Value, algo: &str) -> Option<Vec<Value>> {
    let cpu = config.get("cpu")?;
    names(algo).into_iter().find_map(|name| cpu.get(name)?.as_array().cloned())
}

/// `all` for so many threads on these processors; on its own ones where none are named.
pub(super) fn chosen(all: &[Value], threads: usize, processors: &[usize]) -> Vec<Value> {
    let at = |place: usize, of: &Value| match (processors, of) {
        ([], _) => of.clone(),
        (_, Value::Array(parts)) => {
            // Intensity first, processor last.
            let mut parts = parts.clone();
            if let Some(last) = parts.last_mut() {
                *last = json!(processors[place % processors.len()]);
            }
            Value::Array(parts)
        }
        _ => json!(processors[place % processors.len()]),
    };
    all.iter().take(threads).enumerate().map(|(place, of)| at(place, of)).collect()
}

/// Puts a list into the configuration.
pub(super) fn put(config: &mut Value, algo: &str, list: Vec<Value>) {
    let Some(cpu) = config.get_mut("cpu").and_then(Value::as_object_mut) else { return };
    let name = names(algo).into_iter().find(|name| cpu.contains_key(*name));
    cpu.insert(name.unwrap_or(algo).to_owned(), Value::Array(list));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_taken_from_the_front_and_put_where_they_may_be() {
        let config = json!({ "cpu": { "rx": [0, 1, 2], "gr": [[8, 0], [8, 1]] } });
        let randomx = list(&config, "rx/0").unwrap();
        assert_eq!(chosen(&randomx, 2, &[]), [json!(0), json!(1)]);
        assert_eq!(chosen(&randomx, 9, &[5]), [json!(5), json!(5), json!(5)]);
        let ghostrider = list(&config, "gr").unwrap();
        assert_eq!(chosen(&ghostrider, 1, &[3]), [json!([8, 3])]);
        assert_eq!(list(&config, "kawpow"), None);
    }

    #[test]
    fn nothing_else_is_changed() {
        let mut config = json!({ "cpu": { "rx": [0, 1], "priority": 0 }, "pools": [1] });
        put(&mut config, "rx/0", vec![json!(1)]);
        let expected = json!({ "cpu": { "rx": [1], "priority": 0 }, "pools": [1] });
        assert_eq!(config, expected);
    }
}
