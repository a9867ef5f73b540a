//! `why`: which rule decides now, device by device, with its numbers and what would change it.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use mining::policy::{Decision, Memory, Opinion};
use serde_json::Value;

use super::owner::ask;
use super::{FAILED, Flags, answer, complain};

/// Says why a running node mines, or does not, and why it takes jobs, or does not.
#[derive(Debug, Args)]
pub(super) struct Why {
    /// As JSON, with everything that it was decided by
    #[arg(long)]
    json: bool,
}

impl Why {
    pub(super) fn main(&self, flags: &Flags) -> ExitCode {
        let config = match flags.load_aloud() {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        match ask::<Value>(&config, "/v1/why", None) {
            Ok(view) if self.json => answer(&format!("{view:#}\n")),
            Ok(view) => answer(&words(&view)),
            Err(error) => complain(&error, FAILED),
        }
    }
}

fn words(view: &Value) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "{name:<8} {what}");
    };
    let decision: Option<Decision> =
        serde_json::from_value(view["decision"].clone()).ok().flatten();
    let Some(decision) = decision else {
        line("cpu", "nothing is decided yet: the node has just begun");
        return text;
    };
    let engine = &view["engine"];
    if engine.is_null() {
        line("cpu", "nothing is mined: no engine runs (mining.enabled, and the node's log)");
    } else {
        let of = decision.threads;
        let on: Vec<_> = decision.processors.iter().map(ToString::to_string).collect();
        let on = if on.is_empty() { String::new() } else { format!(" on {}", on.join(",")) };
        line("cpu", &format!("{of} threads{on}"));
        reason(&mut line, &decision.cpu);
        for other in decision.others.iter().take(3) {
            line(
                "",
                &format!("then {}: {} threads: {}", other.rule.as_str(), other.most, other.why),
            );
        }
        match (decision.memory, &decision.memory_why) {
            (Memory::GiveBack, Some(why)) => line("memory", &format!("given back: {why}")),
            _ => line("memory", "kept"),
        }
    }
    line("gpu", &format!("{} %", decision.gpu_intensity()));
    reason(&mut line, &decision.gpu);
    line("jobs", if decision.takes_jobs() { "taken" } else { "not taken" });
    reason(&mut line, &decision.jobs);
    for obstacle in view["work"]["obstacles"].as_array().into_iter().flatten() {
        line("", &format!("but {}", obstacle.as_str().unwrap_or_default()));
    }
    if let Some(numbers) = decision.revenue {
        let jobs = numbers.jobs.map_or("not known".to_owned(), |jobs| format!("{jobs:.4}"));
        let energy = format!("hashes {:.4} - energy {:.4}", numbers.hashes, numbers.energy);
        line(
            "revenue",
            &format!("an hour: mining {:.4} ({energy}), jobs {jobs}", numbers.mining()),
        );
    }
    if let Some(phase) = engine["phase"].as_str() {
        let why = engine["reason"].as_str().map_or(String::new(), |why| format!(": {why}"));
        let in_force = engine["in_force"].as_str().unwrap_or_default();
        line(
            "engine",
            &format!("{}, {phase}{why}; {in_force}", engine["engine"].as_str().unwrap_or_default()),
        );
    }
    text
}

fn reason(line: &mut impl FnMut(&str, &str), opinion: &Opinion) {
    line("", &format!("{}: {}", opinion.rule.as_str(), opinion.why));
    line("", &format!("until: {}", opinion.change));
}
