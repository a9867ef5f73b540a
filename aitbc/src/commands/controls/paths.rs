//! Single values of a JSON object by their paths: `clients.alice.banned`, `prices.gpu.unit_price`.
//! A name with a dot in it is quoted. Pure.

use serde_json::{Map, Value};

use crate::profile::{nearest, suggestion};

/// Every value with its path, as [`set`] takes it.
pub fn flatten(value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk("", value, &mut found);
    found
}

fn walk(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let plain = !name.is_empty() && !name.contains(['.', '=', '"']);
                let name = if plain { name.clone() } else { format!("\"{name}\"") };
                let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                walk(&path, value, found);
            }
        }
        // A text that would be read as something else is quoted.
        Value::String(text) if read(text) == *value => found.push((path.to_owned(), text.clone())),
        other => found.push((path.to_owned(), other.to_string())),
    }
}

/// Changes one value by `PATH=VALUE`; an empty value takes it away.
///
/// # Errors
/// What is wrong with the path.
pub fn set(root: &mut Value, change: &str) -> Result<(), String> {
    let (path, value) = split(change)?;
    let (last, parents) = path.split_last().ok_or("has no path")?;
    let mut place = root;
    for name in parents {
        let map = place.as_object_mut().ok_or("leads through something that is no section")?;
        place = map.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
    }
    let map = place.as_object_mut().ok_or("leads through something that is no section")?;
    if value.is_empty() {
        map.remove(last);
    } else {
        map.insert(last.clone(), read(value));
    }
    Ok(())
}

/// Yes or no, a whole number, a section, a quoted text; everything else is text. So is a decimal
/// number: amounts are texts.
fn read(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Number(number)) if number.is_f64() => Value::from(text),
        Ok(value) => value,
        Err(_) => Value::from(text),
    }
}

/// The names of the path, and what comes after the `=`.
fn split(change: &str) -> Result<(Vec<String>, &str), String> {
    let (mut names, mut rest) = (Vec::new(), change);
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("has a quote that does not end")?,
            None => rest.split_at(rest.find(['.', '=']).ok_or("must be PATH=VALUE")?),
        };
        if name.is_empty() {
            return Err("has an empty name in its path".to_owned());
        }
        names.push(name.to_owned());
        if let Some(value) = after.strip_prefix('=') {
            return Ok((names, value));
        }
        rest = after.strip_prefix('.').ok_or("must be PATH=VALUE")?;
    }
}

/// An error of the whole, with the nearest name where one is unknown.
pub fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let mut quoted = text.split('`').skip(1).step_by(2);
    match (text.starts_with("unknown field"), quoted.next()) {
        (true, Some(name)) => format!("unknown name `{name}`{}", suggestion(nearest(name, quoted))),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use protocol::control::Controls;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_changed_one_by_one() {
        let mut values = json!({"version": 3, "intake": true, "daily_cap": "5"});
        for change in [
            "intake=false",
            "daily_cap=",
            "clients.alice.max_live_jobs=10",
            "clients.\"a.b\".banned=owes = 5",
            "clients.c.banned=\"5\"",
            "prices.gpu={\"unit_type\": \"gpu_seconds\", \"unit_price\": \"0.03\"}",
            "prices.gpu.unit_price=0.04",
        ] {
            set(&mut values, change).unwrap();
        }
        let wanted = json!({
            "version": 3, "intake": false,
            "clients": {"alice": {"max_live_jobs": 10}, "a.b": {"banned": "owes = 5"},
                "c": {"banned": "5"}},
            "prices": {"gpu": {"unit_type": "gpu_seconds", "unit_price": "0.04"}},
        });
        assert_eq!(values, wanted);
    }

    #[test]
    fn what_is_printed_can_be_typed() {
        let values = json!({"a": {"b.c": "text", "d": "5", "e": "0.5"}, "f": [1], "g": true});
        let mut again = json!({});
        let printed = flatten(&values);
        assert_eq!(printed[0], ("a.\"b.c\"".to_owned(), "text".to_owned()));
        assert_eq!(printed[1], ("a.d".to_owned(), "\"5\"".to_owned()));
        for (path, value) in printed {
            set(&mut again, &format!("{path}={value}")).unwrap();
        }
        assert_eq!(again, values);
    }

    #[test]
    fn bad_paths_are_refused() {
        let mut values = json!({"intake": true});
        for change in ["intake", "=5", ".a=5", "a.=5", "\"a=5", "\"a\"b=5", "intake.x=5"] {
            assert!(set(&mut values, change).is_err(), "{change}");
        }
        let error = serde_json::from_value::<Controls>(json!({"intak": true})).unwrap_err();
        assert_eq!(explain(&error), "unknown name `intak` (did you mean `intake`?)");
    }
}
