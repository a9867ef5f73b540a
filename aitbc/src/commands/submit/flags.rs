//! The flags that describe a job.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use protocol::client::{Constraints, NewJob};
use protocol::id::RelativePath;
use protocol::job::{ArtifactRule, Input, Limits, Network};
use protocol::{Amount, Name};
use serde_json::{Map, Value};

use crate::ending::Failure;

/// What a job is. Each flag wins over the file, in each of its jobs.
#[derive(Debug, Args)]
#[command(next_help_heading = "The job")]
pub struct JobFlags {
    /// What kind of work: hash, torch_bench, ..
    #[arg(long, short, value_name = "NAME")]
    workload: Option<Name>,
    /// A parameter of the workload; the value may be JSON; may be repeated
    #[arg(long = "param", short, value_name = "NAME=VALUE", value_parser = param)]
    param: Vec<(String, Value)>,
    /// All parameters, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    params: Option<Map<String, Value>>,
    /// A program of the miners' allowlists; its arguments come after --
    #[arg(long, value_name = "PROGRAM")]
    command: Option<String>,
    /// The program's arguments
    #[arg(last = true, value_name = "ARGS", requires = "command")]
    args: Vec<String>,
    /// Text that the job reads
    #[arg(long, value_name = "TEXT")]
    input_text: Option<String>,
    /// Upload a file that the job reads as NAME; may be repeated
    #[arg(long = "input-file", value_name = "NAME=PATH")]
    input_files: Vec<InputPath>,
    /// A file that the job must leave behind; may be repeated
    #[arg(long = "artifact", value_name = "PATH[:TYPE]", value_parser = artifact)]
    artifacts: Vec<ArtifactRule>,
    /// 0 to 9; higher leaves the queue first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// How long it may wait for a miner
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u32>,
    /// How often it is tried, 1 to 10
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10))]
    max_attempts: Option<u32>,
    /// Refuse it where nobody can run it now, rather than wait
    #[arg(long)]
    require_now: bool,
    #[command(flatten)]
    constraints: ConstraintFlags,
    #[command(flatten)]
    limits: LimitFlags,
}

/// Which miners may take it, and what it may cost.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which miners may take it")]
struct ConstraintFlags {
    /// Those with a GPU
    #[arg(long)]
    gpu: bool,
    /// Those with at least this CUDA version
    #[arg(long, value_name = "MAJOR.MINOR")]
    cuda: Option<String>,
    /// Those with a GPU of at least this much memory
    #[arg(long, value_name = "GIB")]
    min_vram_gb: Option<u32>,
    /// Those with at least this many processor threads
    #[arg(long, value_name = "N")]
    cpu_threads: Option<u32>,
    /// Those with this model; may be repeated
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<Name>,
    /// Those with this WebAssembly engine, as in wasmtime-36
    #[arg(long, value_name = "NAME")]
    engine: Option<Name>,
    /// Those of this region
    #[arg(long, value_name = "NAME")]
    region: Option<Name>,
    /// The most that the job may cost
    #[arg(long, value_name = "AITBC")]
    max_price: Option<Amount>,
}

/// What it may use.
#[derive(Debug, Args)]
#[command(next_help_heading = "What it may use")]
struct LimitFlags {
    /// Time to run
    #[arg(long, value_name = "SECONDS")]
    max_runtime_s: Option<u32>,
    /// Processor time
    #[arg(long, value_name = "SECONDS")]
    cpu_secs: Option<u32>,
    /// Memory
    #[arg(long, value_name = "MIB")]
    ram_mb: Option<u32>,
    /// GPU memory
    #[arg(long, value_name = "MIB")]
    vram_mb: Option<u32>,
    /// Disk space
    #[arg(long, value_name = "MIB")]
    disk_mb: Option<u32>,
    /// Output and artifacts together
    #[arg(long, value_name = "MIB")]
    max_output_mb: Option<u32>,
    /// Tokens
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// Fuel of a WebAssembly job
    #[arg(long, value_name = "N")]
    max_fuel: Option<u64>,
    /// The network, which jobs otherwise do not have
    #[arg(long)]
    egress: bool,
}

/// A file that is uploaded, and its name in the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputPath {
    /// The name in the job.
    pub name: RelativePath,
    /// The file here.
    pub path: PathBuf,
}

impl FromStr for InputPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text.split_once('=').ok_or("must be NAME=PATH")?;
        let name = name.parse().map_err(|error| format!("{name:?}: {error}"))?;
        Ok(Self { name, path: PathBuf::from(path) })
    }
}

/// `NAME=VALUE`. A value that is no JSON is a string.
fn param(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    if name.is_empty() {
        return Err("has no name".to_owned());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("must be a JSON object: {error}"))
}

/// `PATH[:TYPE]`; only what looks like a media type is one, since paths may have colons.
fn artifact(text: &str) -> Result<ArtifactRule, String> {
    let (path, media_type) = match text.rsplit_once(':') {
        Some((path, media_type)) if media_type.contains('/') && !path.is_empty() => {
            (path, Some(media_type.to_owned()))
        }
        _ => (text, None),
    };
    let path = path.parse().map_err(|error| format!("{path:?}: {error}"))?;
    Ok(ArtifactRule { path, media_type, max_mb: None })
}

/// A job that says nothing yet.
pub fn empty_job() -> NewJob {
    NewJob {
        workload: None,
        runner: None,
        params: Map::new(),
        command: None,
        args: Vec::new(),
        input: Input::default(),
        artifacts: Vec::new(),
        constraints: Constraints::default(),
        limits: Limits::default(),
        priority: 0,
        ttl_seconds: None,
        max_attempts: None,
        require_now: false,
        manifest_sig: None,
    }
}

/// A flag that was given counts.
fn put<T: Clone>(slot: &mut Option<T>, flag: &Option<T>) {
    if flag.is_some() {
        slot.clone_from(flag);
    }
}

impl JobFlags {
    /// The files to upload.
    pub fn inputs(&self) -> &[InputPath] {
        &self.input_files
    }

    /// Writes what was said into `job`.
    ///
    /// # Errors
    /// Where it is no job even then.
    pub fn apply(&self, job: &mut NewJob) -> Result<(), Failure> {
        put(&mut job.workload, &self.workload);
        put(&mut job.command, &self.command);
        put(&mut job.ttl_seconds, &self.ttl);
        put(&mut job.max_attempts, &self.max_attempts);
        if let Some(params) = &self.params {
            job.params.clone_from(params);
        }
        job.params.extend(self.param.iter().cloned());
        if !self.args.is_empty() {
            job.args.clone_from(&self.args);
        }
        if let Some(text) = &self.input_text {
            job.input.inline.insert("text".to_owned(), Value::from(text.as_str()));
        }
        job.artifacts.retain(|rule| self.artifacts.iter().all(|new| new.path != rule.path));
        job.artifacts.extend(self.artifacts.iter().cloned());
        self.constraints.apply(&mut job.constraints);
        self.limits.apply(&mut job.limits);
        job.priority = self.priority.unwrap_or(job.priority);
        job.require_now |= self.require_now;
        if job.workload.is_none() && job.command.is_none() {
            return Err(Failure::usage("a job needs --workload, --command or a FILE that says so"));
        }
        Ok(())
    }
}

impl ConstraintFlags {
    fn apply(&self, constraints: &mut Constraints) {
        constraints.gpu |= self.gpu;
        put(&mut constraints.cuda, &self.cuda);
        put(&mut constraints.min_vram_gb, &self.min_vram_gb);
        put(&mut constraints.cpu_threads, &self.cpu_threads);
        put(&mut constraints.engine, &self.engine);
        put(&mut constraints.region, &self.region);
        put(&mut constraints.max_price, &self.max_price);
        if !self.models.is_empty() {
            constraints.models.clone_from(&self.models);
        }
    }
}

impl LimitFlags {
    fn apply(&self, limits: &mut Limits) {
        put(&mut limits.max_runtime_s, &self.max_runtime_s);
        put(&mut limits.cpu_secs, &self.cpu_secs);
        put(&mut limits.ram_mb, &self.ram_mb);
        put(&mut limits.vram_mb, &self.vram_mb);
        put(&mut limits.disk_mb, &self.disk_mb);
        put(&mut limits.max_output_mb, &self.max_output_mb);
        put(&mut limits.max_tokens, &self.max_tokens);
        put(&mut limits.max_fuel, &self.max_fuel);
        if self.egress {
            limits.network = Some(Network::Egress);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        job: JobFlags,
    }

    fn job(words: &[&str], mut job: NewJob) -> Value {
        let line = Line::try_parse_from(std::iter::once(&"x").chain(words)).unwrap();
        line.job.apply(&mut job).unwrap();
        serde_json::to_value(job).unwrap()
    }

    #[test]
    fn every_flag_has_its_place() {
        let words = "--workload llm --param n=3 --param name=x --param deep={\"a\":[1]} --command c \
            --input-text hello --artifact out/a.mp4:video/mp4 --artifact b:c --gpu --cuda 12.4 \
            --min-vram-gb 24 --cpu-threads 4 --model m:1 --model m:2 --engine e-1 --region eu --max-price 0.5 \
            --max-runtime-s 1 --cpu-secs 2 --ram-mb 3 --vram-mb 4 --disk-mb 5 --max-output-mb 6 \
            --max-tokens 7 --max-fuel 8 --egress --priority 9 --ttl 60 --max-attempts 2 \
            --require-now -- -x --workload";
        let words: Vec<_> = words.split_whitespace().collect();
        let wanted = json!({
            "workload": "llm", "params": {"n": 3, "name": "x", "deep": {"a": [1]}},
            "command": "c", "args": ["-x", "--workload"], "input": {"inline": {"text": "hello"}},
            "artifacts": [{"path": "out/a.mp4", "type": "video/mp4"}, {"path": "b:c"}],
            "constraints": {"gpu": true, "cuda": "12.4", "min_vram_gb": 24, "cpu_threads": 4,
                "models": ["m:1", "m:2"], "engine": "e-1", "region": "eu", "max_price": "0.5"},
            "limits": {"max_runtime_s": 1, "cpu_secs": 2, "ram_mb": 3, "vram_mb": 4, "disk_mb": 5,
                "max_output_mb": 6, "max_tokens": 7, "max_fuel": 8, "network": "egress"},
            "priority": 9, "ttl_seconds": 60, "max_attempts": 2, "require_now": true,
        });
        assert_eq!(job(&words, empty_job()), wanted);
    }

    #[test]
    fn what_is_not_said_stays_as_the_file_has_it() {
        let file: NewJob = serde_json::from_value(json!({
            "workload": "hash", "params": {"a": 1}, "priority": 5, "require_now": true,
        }))
        .unwrap();
        assert_eq!(job(&[], file.clone()), serde_json::to_value(&file).unwrap());
        assert_eq!(job(&["--param", "b=2"], file.clone())["params"], json!({"a": 1, "b": 2}));
        assert_eq!(job(&["--params", "{\"c\": 3}"], file)["params"], json!({"c": 3}));
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            ["--param", "novalue"],
            ["--params", "[1]"],
            ["--priority", "10"],
            ["--max-attempts", "0"],
            ["--artifact", "../x"],
            ["--input-file", "x"],
            ["--input-file", "/x=y"],
            ["--max-price", "1e3"],
        ] {
            let line = Line::try_parse_from(["x", words[0], words[1]]);
            assert!(line.is_err(), "{words:?}");
        }
    }
}
