//! Recorded traces of facts: what a machine went through in an evening, and what was to be decided.
//!
//! Each step changes some of the facts before it, as a merge of JSON objects does.

use mining::policy::{Decision, Facts, Memory, Rule, Rules, State, decide};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trace {
    about: String,
    #[serde(default)]
    rules: Rules,
    facts: Value,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Seconds since the beginning of the trace.
    at_s: f64,
    #[serde(default)]
    facts: Value,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    rule: Rule,
    threads: usize,
    processors: Option<Vec<usize>>,
    memory: Option<Memory>,
    gpu_intensity: Option<usize>,
    jobs: Option<Rule>,
    /// What the reason has to say.
    why: Option<String>,
}

impl Expected {
    fn hold(&self, decision: &Decision) {
        assert_eq!((decision.cpu.rule, decision.threads), (self.rule, self.threads));
        if let Some(processors) = &self.processors {
            assert_eq!(&decision.processors, processors);
        }
        if let Some(memory) = self.memory {
            assert_eq!(decision.memory, memory, "{:?}", decision.memory_why);
        }
        if let Some(intensity) = self.gpu_intensity {
            assert_eq!(decision.gpu_intensity(), intensity, "{:?}", decision.gpu);
        }
        if let Some(rule) = self.jobs {
            assert_eq!(decision.jobs.rule, rule, "{:?}", decision.jobs);
        }
        if let Some(why) = &self.why {
            assert!(decision.cpu.why.contains(why), "{:?}", decision.cpu);
        }
    }
}

fn merge(facts: &mut Value, changes: Value) {
    let (Value::Object(facts), Value::Object(changes)) = (facts, changes) else { return };
    for (key, change) in changes {
        let known = facts.entry(key).or_insert(Value::Null);
        if known.is_object() && change.is_object() {
            merge(known, change);
        } else {
            *known = change;
        }
    }
}

fn play(text: &str) {
    let trace: Trace = serde_json::from_str(text).unwrap();
    assert_eq!(trace.rules.check(), Ok(()));
    let (mut known, mut state) = (trace.facts, State::default());
    for (number, step) in trace.steps.into_iter().enumerate() {
        merge(&mut known, step.facts);
        let facts: Facts = serde_json::from_value(known.clone()).unwrap();
        let facts = Facts {
            at_ms: (step.at_s * 1000.0) as u64,
            unix_s: facts.unix_s + step.at_s as u64,
            ..facts
        };
        let decision;
        (decision, state) = decide(&trace.rules, &facts, &state);
        println!("{}: step {number} at {} s: {:?}", trace.about, step.at_s, decision.cpu);
        step.expect.hold(&decision);
    }
}

#[test]
fn desktop_evening() {
    play(include_str!("../traces/desktop_evening.json"));
}

#[test]
fn headless_server() {
    play(include_str!("../traces/headless_server.json"));
}

#[test]
fn laptop_on_battery() {
    play(include_str!("../traces/laptop_on_battery.json"));
}

#[test]
fn burst_of_jobs() {
    play(include_str!("../traces/burst_of_jobs.json"));
}

#[test]
fn critical_job() {
    play(include_str!("../traces/critical_job.json"));
}
