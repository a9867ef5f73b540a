//! From what a client wrote to what is stored: validation, defaults, price. Pure.

use protocol::client::NewJob;
use protocol::control::{Bonus, Prices, UnitPrice};
use protocol::job::{Price, Requirements, Runner, RunnerKind, SlotKind, UnitType};
use protocol::{Amount, Name, Timestamp, Units};

use crate::config::Config;
use crate::controls::InForce;
use crate::db::storable;
use crate::dispatch::matching::Needs;
use crate::error::ApiError;
use crate::jobs::Spec;

/// A job that is valid and priced, but not stored.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What is stored of it.
    pub spec: Spec,
    /// What a miner must have.
    pub needs: Needs,
    /// 0 to 9.
    pub priority: u8,
    /// How often it is tried.
    pub max_attempts: u32,
    /// How long it may run, in seconds.
    pub max_runtime_s: u32,
    /// How long it may wait, in seconds.
    pub ttl_secs: u32,
    /// What a prepaid client must cover.
    pub hold: Amount,
    /// The most that it can cost: the hold, unless its limits allow less.
    pub most: Amount,
    /// What the operator keeps of the price, in hundredths of a per cent.
    pub fee_bp: u16,
    /// What the operator adds to it for efficient work.
    pub bonus: Option<Bonus>,
    /// Refuse rather than wait where nobody can run it now.
    pub require_now: bool,
}

/// Validates and prices a job.
///
/// # Errors
/// `INVALID_PAYLOAD`, naming the field.
pub fn draft(
    config: &Config,
    in_force: &InForce,
    client: &Name,
    now: Timestamp,
    job: NewJob,
) -> Result<Draft, ApiError> {
    check_sizes(&job)?;
    let (workload, runner) = kind(&job)?;
    let defaults = &config.jobs;
    let max_runtime_s = within(
        "limits.max_runtime_s",
        job.limits.max_runtime_s.unwrap_or(defaults.max_runtime_s),
        1..=defaults.runtime_ceiling_s,
    )?;
    let ttl_secs =
        within("ttl_seconds", job.ttl_seconds.unwrap_or(defaults.ttl_secs), 1..=30 * 86_400)?;
    let max_attempts =
        within("max_attempts", job.max_attempts.unwrap_or(defaults.max_attempts), 1..=10)?;
    let priority = within("priority", job.priority, 0..=9)?;

    let requirements = requirements(&job)?;
    let slot = if requirements.gpu { SlotKind::Gpu } else { SlotKind::Cpu };
    let UnitPrice { unit_type, unit_price, bonus } =
        price(in_force.prices(&config.prices), &workload, slot);
    let max_price = job.constraints.max_price;
    if max_price.is_some_and(Amount::is_negative) {
        return Err(ApiError::field("constraints.max_price", "must not be negative"));
    }
    let mut limits = job.limits;
    limits.max_runtime_s = Some(max_runtime_s);
    if unit_type == UnitType::Tokens {
        let asked = limits.max_tokens.unwrap_or(defaults.max_tokens);
        limits.max_tokens = Some(within("limits.max_tokens", asked, 1..=defaults.max_tokens)?);
    }
    if let Some(fuel) = limits.max_fuel {
        within("limits.max_fuel", fuel, 1..=defaults.max_fuel)?;
    }
    let spec = Spec {
        workload,
        runner: Runner { kind: runner },
        params: job.params,
        command: job.command,
        args: job.args,
        input: job.input,
        limits,
        requirements,
        slot,
        artifacts: job.artifacts,
        price: Price { unit_type, unit_price, max_price },
        priority,
        client: client.clone(),
        created_at: now,
        expires_at: now.plus_secs(i64::from(ttl_secs)),
        manifest_sig: job.manifest_sig,
    };
    check_storable(&spec)?;
    let (hold, most) = costs(&spec, max_runtime_s)?;
    let needs = Needs::of(&spec);
    Ok(Draft {
        spec,
        needs,
        priority,
        max_attempts,
        max_runtime_s,
        ttl_secs,
        hold,
        most,
        fee_bp: in_force.fee_bp(),
        bonus,
        require_now: job.require_now,
    })
}

/// Texts that PostgreSQL cannot hold are refused on SQLite, too.
fn check_storable(spec: &Spec) -> Result<(), ApiError> {
    let document = serde_json::to_value(spec).unwrap_or_default();
    let fields = document.as_object().into_iter().flatten();
    match fields.into_iter().find(|(_, value)| !storable(value)) {
        None => Ok(()),
        Some((field, _)) => Err(ApiError::field(field, "must not contain U+0000")),
    }
}

fn within<T: PartialOrd + std::fmt::Display + Copy>(
    field: &str,
    value: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, ApiError> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(ApiError::field(field, format!("must be {} to {}", range.start(), range.end())))
}

fn check_sizes(job: &NewJob) -> Result<(), ApiError> {
    let sizes = [
        ("args", job.args.len(), 256),
        ("artifacts", job.artifacts.len(), 64),
        ("input.files", job.input.files.len(), 64),
        ("constraints.models", job.constraints.models.len(), 16),
    ];
    for (field, size, most) in sizes {
        if size > most {
            return Err(ApiError::field(field, format!("at most {most} items")));
        }
    }
    if job.args.iter().map(String::len).sum::<usize>() > 64 * 1024 {
        return Err(ApiError::field("args", "at most 64 KiB in all"));
    }
    if job.args.iter().any(|arg| arg.contains('\0')) {
        return Err(ApiError::field("args", "must not contain U+0000"));
    }
    Ok(())
}

/// The workload and its runner: a command means `cli`, an inference server's workload `ollama`, a
/// WebAssembly module `wasm`, anything else what the nodes know themselves.
fn kind(job: &NewJob) -> Result<(Name, RunnerKind), ApiError> {
    let stated = job.runner.as_ref().map(|runner| runner.kind);
    let kind = match (stated, &job.command) {
        (Some(RunnerKind::Cli), None) => {
            return Err(ApiError::field("command", "a cli job needs a command"));
        }
        (Some(RunnerKind::Cli) | None, Some(command)) => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+');
            if command.is_empty() || command.len() > 64 || !command.bytes().all(plain) {
                let message = "must be the plain name of a program, at most 64 characters";
                return Err(ApiError::field("command", message));
            }
            RunnerKind::Cli
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::field("command", "only a cli job has a command"));
        }
        (Some(kind), None) => kind,
        (None, None) => match job.workload.as_ref().map(Name::as_str) {
            Some("llm_gen") => RunnerKind::Ollama,
            Some("sd_infer") => RunnerKind::Python,
            Some("wasm") => RunnerKind::Wasm,
            _ => RunnerKind::Builtin,
        },
    };
    let workload = match (&job.workload, kind) {
        (Some(workload), _) => workload.clone(),
        (None, RunnerKind::Cli | RunnerKind::Wasm) => {
            kind.as_str().parse().map_err(|_| ApiError::field("workload", "is missing"))?
        }
        (None, _) => return Err(ApiError::field("workload", "is missing")),
    };
    if kind == RunnerKind::Wasm && job.limits.max_fuel.is_none() {
        return Err(ApiError::field("limits.max_fuel", "a wasm job needs a limit of its fuel"));
    }
    Ok((workload, kind))
}

fn requirements(job: &NewJob) -> Result<Requirements, ApiError> {
    let asked = &job.constraints;
    if let Some(cuda) = &asked.cuda {
        let number = |part: &str| (1..=4).contains(&part.len()) && part.parse::<u32>().is_ok();
        if cuda.split('.').count() != 2 || !cuda.split('.').all(number) {
            return Err(ApiError::field("constraints.cuda", "must be major.minor, as in 12.4"));
        }
    }
    let vram_of_gb = asked
        .min_vram_gb
        .map(|gb| {
            gb.checked_mul(1024)
                .ok_or_else(|| ApiError::field("constraints.min_vram_gb", "is out of range"))
        })
        .transpose()?;
    let vram_mb = vram_of_gb.max(job.limits.vram_mb);
    let sizes = [
        ("limits.vram_mb", vram_mb),
        ("limits.ram_mb", job.limits.ram_mb),
        ("limits.disk_mb", job.limits.disk_mb),
    ];
    for (field, value) in sizes {
        // Rounded up to a class they must still be numbers.
        if value.is_some_and(|mb| mb > 16 * 1024 * 1024) {
            return Err(ApiError::field(field, "is out of range"));
        }
    }
    Ok(Requirements {
        gpu: asked.gpu || vram_mb.is_some_and(|mb| mb > 0) || asked.cuda.is_some(),
        vram_mb,
        ram_mb: job.limits.ram_mb,
        cpu_threads: asked
            .cpu_threads
            .map(|threads| within("constraints.cpu_threads", threads, 1..=1024))
            .transpose()?,
        cuda: asked.cuda.clone(),
        models: asked.models.clone(),
        engine: asked.engine.clone(),
        region: asked.region.clone(),
    })
}

fn price(prices: &Prices, workload: &Name, slot: SlotKind) -> UnitPrice {
    let usual = match slot {
        SlotKind::Gpu => prices.gpu,
        SlotKind::Cpu => prices.cpu,
    };
    prices.workloads.get(workload).copied().unwrap_or(usual)
}

/// What a prepaid client must cover: the job's `max_price`, else its unit price times its limit. And
/// the lesser of both, which is the most that it can cost.
fn costs(spec: &Spec, max_runtime_s: u32) -> Result<(Amount, Amount), ApiError> {
    let by_limit = by_limit(spec, max_runtime_s);
    match spec.price.max_price {
        Some(max_price) => Ok((max_price, by_limit.map_or(max_price, |most| most.min(max_price)))),
        None => by_limit.map(|most| (most, most)),
    }
}

/// The unit price times the limit.
fn by_limit(spec: &Spec, max_runtime_s: u32) -> Result<Amount, ApiError> {
    let units = match spec.price.unit_type {
        UnitType::GpuSeconds | UnitType::CpuSeconds => Units::from_whole(i64::from(max_runtime_s))
            .and_then(|u| u.checked_times(spec.devices())),
        UnitType::Tokens => Units::from_whole(i64::from(spec.limits.max_tokens.unwrap_or(0))),
        UnitType::Fuel => {
            let fuel = spec.limits.max_fuel.ok_or_else(|| {
                ApiError::field("limits.max_fuel", "a job that is billed by fuel needs a limit")
            })?;
            i64::try_from(fuel).ok().and_then(Units::from_whole)
        }
    };
    units.and_then(|units| units.price(spec.price.unit_price)).ok_or_else(|| {
        ApiError::field("limits", "the most that the job could cost is out of range")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn try_draft(job: Value) -> Result<Draft, ApiError> {
        let job = serde_json::from_value(job).unwrap();
        let client = "c".parse().unwrap();
        let in_force = InForce::default();
        draft(&Config::default(), &in_force, &client, Timestamp::from_micros(0), job)
    }

    #[test]
    fn a_command_makes_a_cli_job() {
        let draft = try_draft(json!({"command": "gzip", "args": ["-9"]})).unwrap();
        assert_eq!(draft.spec.workload.as_str(), "cli");
        assert_eq!(draft.needs.command.as_deref(), Some("gzip"));
        assert_eq!(draft.spec.slot, SlotKind::Cpu);
    }

    #[test]
    fn a_wasm_job_has_an_engine_and_a_limit_of_its_fuel() {
        let job = json!({"runner": {"kind": "wasm"}, "limits": {"max_fuel": 9},
            "constraints": {"engine": "wasmtime-36"}});
        let draft = try_draft(job).unwrap();
        assert_eq!(draft.spec.workload.as_str(), "wasm");
        assert_eq!(draft.needs.engine.as_ref().map(Name::as_str), Some("wasmtime-36"));
        let same = try_draft(json!({"workload": "wasm", "limits": {"max_fuel": 9}})).unwrap();
        assert_eq!(same.needs.runner, RunnerKind::Wasm);
        assert_ne!(same.needs.digest(), draft.needs.digest());
    }

    #[test]
    fn vram_makes_a_gpu_job_and_its_price() {
        let draft = try_draft(json!({"workload": "llm_gen", "constraints": {"min_vram_gb": 12}}));
        let draft = draft.unwrap();
        assert_eq!(draft.spec.requirements.vram_mb, Some(12 * 1024));
        assert_eq!(draft.spec.price.unit_price.to_string(), "0.02");
        assert_eq!(draft.hold.to_string(), "72");
    }

    #[test]
    fn the_hold_is_the_max_price_where_there_is_one() {
        let job = json!({"workload": "hash", "constraints": {"max_price": "5"}});
        assert_eq!(try_draft(job).unwrap().hold.to_string(), "5");
        let job = json!({"workload": "hash", "constraints": {"max_price": "50"}});
        let draft = try_draft(job).unwrap();
        assert_eq!((draft.hold.to_string(), draft.most.to_string()), ("50".into(), "7.2".into()));
    }

    #[test]
    fn bad_fields_are_named() {
        let cases = [
            (json!({}), "workload"),
            (json!({"runner": {"kind": "cli"}}), "command"),
            (json!({"workload": "wasm"}), "limits.max_fuel"),
            (json!({"command": "../gzip"}), "command"),
            (json!({"command": "gzip", "runner": {"kind": "python"}}), "command"),
            (json!({"workload": "hash", "priority": 10}), "priority"),
            (json!({"workload": "hash", "ttl_seconds": 0}), "ttl_seconds"),
            (json!({"workload": "hash", "max_attempts": 11}), "max_attempts"),
            (json!({"workload": "hash", "limits": {"max_runtime_s": 0}}), "limits.max_runtime_s"),
            (json!({"workload": "hash", "limits": {"disk_mb": u32::MAX}}), "limits.disk_mb"),
            (json!({"workload": "hash", "constraints": {"cuda": "12"}}), "constraints.cuda"),
            (
                json!({"workload": "hash", "constraints": {"max_price": "-1"}}),
                "constraints.max_price",
            ),
            (json!({"command": "gzip", "args": ["a\u{0}b"]}), "args"),
        ];
        for (job, field) in cases {
            let error = try_draft(job.clone()).unwrap_err();
            assert_eq!(error.details["field"], field, "{job}");
        }
    }
}
