//! Jobs as files: JSON, JSON lines or YAML; one job, a list, or `jobs: [..]`. What is no job is
//! refused before anything is submitted.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use figment::providers::{Format as _, Yaml};
use protocol::client::{MAX_BATCH, NewJob};
use serde_json::Value;

use crate::ending::Failure;
use crate::profile::{nearest, suggestion};

/// No file of jobs is larger: as much as a coordinator takes at once.
const MAX_BYTES: u64 = 16 << 20;

/// Reads a file of jobs; `-` is standard input.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(path: &Path) -> Result<Vec<NewJob>, Failure> {
    let mut text = String::new();
    let mut take = |source: &mut dyn Read| source.take(MAX_BYTES + 1).read_to_string(&mut text);
    let read = if path == Path::new("-") {
        take(&mut std::io::stdin())
    } else {
        File::open(path).and_then(|mut file| take(&mut file))
    };
    read.map_err(|error| Failure::unreadable(path, &error))?;
    let wrong = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    if text.len() as u64 > MAX_BYTES {
        return Err(wrong(format!("larger than {MAX_BYTES} bytes")));
    }
    parse(&text).map_err(wrong)
}

/// The jobs of a text.
///
/// # Errors
/// Everything that is wrong with it, one line each.
pub fn parse(text: &str) -> Result<Vec<NewJob>, String> {
    let jobs = flatten(documents(text)?);
    if jobs.is_empty() {
        return Err("holds no job".to_owned());
    }
    if jobs.len() > MAX_BATCH {
        return Err(format!("holds {} jobs; at most {MAX_BATCH} go at once", jobs.len()));
    }
    let only = jobs.len() == 1;
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (index, job) in jobs.into_iter().enumerate() {
        match serde_json::from_value(job) {
            Ok(job) => good.push(job),
            Err(error) if only => bad.push(explain(&error)),
            Err(error) => bad.push(format!("job {}: {}", index + 1, explain(&error))),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad.join("\n")) }
}

/// JSON is tried first: YAML would take most of it, and say less about what is wrong with it.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    let json: Result<Vec<Value>, _> =
        serde_json::Deserializer::from_str(text).into_iter().collect();
    let error = match json {
        Ok(documents) => return Ok(documents),
        Err(error) => error,
    };
    match Yaml::from_str::<Value>(text) {
        Ok(document) => Ok(vec![document]),
        Err(_) if text.trim_start().starts_with(['{', '[']) => Err(format!("no JSON: {error}")),
        Err(error) => Err(format!("no YAML: {error}")),
    }
}

fn flatten(documents: Vec<Value>) -> Vec<Value> {
    let mut jobs = Vec::new();
    for document in documents {
        match document {
            Value::Null => {}
            Value::Array(list) => jobs.extend(list),
            Value::Object(mut map)
                if map.len() == 1 && map.get("jobs").is_some_and(Value::is_array) =>
            {
                jobs.extend(map.remove("jobs").into_iter().flat_map(|list| flatten(vec![list])));
            }
            job => jobs.push(job),
        }
    }
    jobs
}

/// serde names the unknown field and all known ones; people want the nearest.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let mut quoted = text.split('`').skip(1).step_by(2);
    match (text.starts_with("unknown field"), quoted.next()) {
        (true, Some(name)) => {
            format!("unknown field `{name}`{}", suggestion(nearest(name, quoted)))
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workloads(text: &str) -> Vec<String> {
        let jobs = parse(text).unwrap();
        jobs.iter().map(|job| job.workload.as_ref().unwrap().to_string()).collect()
    }

    #[test]
    fn every_form_of_a_list_is_taken() {
        for text in [
            r#"[{"workload": "a"}, {"workload": "b"}]"#,
            "{\"workload\": \"a\"}\n{\"workload\": \"b\"}\n",
            r#"{"jobs": [{"workload": "a"}, {"workload": "b"}]}"#,
            "- workload: a\n- workload: b\n",
            "jobs:\n  - workload: a\n  - {workload: b}\n",
        ] {
            assert_eq!(workloads(text), ["a", "b"], "{text}");
        }
        assert_eq!(workloads("workload: a\nlimits: {max_runtime_s: 5}\n"), ["a"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let error = parse("- workload: a\n- wrokload: b\n- priority: x\n").unwrap_err();
        assert!(error.starts_with("job 2: unknown field `wrokload` (did you mean `workload`?)\n"));
        assert!(error.lines().nth(1).unwrap().starts_with("job 3: "), "{error}");
        assert!(parse("{\"workload\": ").unwrap_err().starts_with("no JSON: "));
        assert!(parse("a: b: c").unwrap_err().starts_with("no YAML: "));
        for nothing in ["", "[]", "jobs: []", "# only a comment\n"] {
            assert_eq!(parse(nothing).unwrap_err(), "holds no job", "{nothing:?}");
        }
        assert!(parse(&"{}".repeat(MAX_BATCH + 1)).unwrap_err().contains("1001 jobs"));
    }
}
