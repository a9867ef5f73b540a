//! What a miner may say about itself, and what is assumed of one that never registered.

use protocol::job::SlotKind;
use protocol::miner::CapabilityLimits;
use protocol::{MinerCapabilities, Name};
use serde_json::{Map, json};

use crate::db::storable;
use crate::error::ApiError;

/// The workloads of the seed's script, which has no way to state any.
const SCRIPT_WORKLOADS: [&str; 3] = ["torch_bench", "sd_infer", "llm_gen"];

/// More jobs at once than any single node runs; a heartbeat names them all.
const MAX_CONCURRENCY: u32 = 256;

/// More entries than a list of a real node has.
const MAX_LIST: usize = 1024;

/// More than a node's own words need, in bytes.
const MAX_TEXT: usize = 256;

/// What a miner offers of which only the heartbeat is known.
pub fn unregistered(miner_id: Name, mode: SlotKind, gpu: bool) -> MinerCapabilities {
    MinerCapabilities {
        miner_id,
        mode,
        gpu,
        concurrency: 1,
        workloads: SCRIPT_WORKLOADS.iter().filter_map(|name| name.parse().ok()).collect(),
        limits: CapabilityLimits::default(),
        gpus: Vec::new(),
        runners: Vec::new(),
        commands: None,
        slots: None,
        models: Vec::new(),
        engines: Vec::new(),
        region: None,
        wallet: None,
        pubkey: None,
        isolation: None,
        mining: Map::new(),
        version: None,
        price: None,
        egress: false,
    }
}

/// Refuses what no real node says.
///
/// # Errors
/// `INVALID_PAYLOAD`, naming the field.
pub fn check(capabilities: &MinerCapabilities) -> Result<(), ApiError> {
    if capabilities.concurrency > MAX_CONCURRENCY {
        return Err(ApiError::field("concurrency", format!("must be 0 to {MAX_CONCURRENCY}")));
    }
    let slots = capabilities.slots.unwrap_or_default();
    if slots.cpu > MAX_CONCURRENCY || slots.gpu > MAX_CONCURRENCY {
        return Err(ApiError::field("slots", format!("must be 0 to {MAX_CONCURRENCY} each")));
    }
    if capabilities.price.is_some_and(|price| price.is_negative()) {
        return Err(ApiError::field("price", "must not be negative"));
    }
    let commands = capabilities.commands.as_deref().unwrap_or_default();
    for (field, len) in [
        ("workloads", capabilities.workloads.len()),
        ("models", capabilities.models.len()),
        ("engines", capabilities.engines.len()),
        ("runners", capabilities.runners.len()),
        ("gpus", capabilities.gpus.len()),
        ("commands", commands.len()),
        ("mining", capabilities.mining.len()),
    ] {
        if len > MAX_LIST {
            return Err(ApiError::field(field, format!("must have at most {MAX_LIST} entries")));
        }
    }
    if !storable(&json!(capabilities.mining)) {
        return Err(ApiError::field("mining", "must not contain U+0000"));
    }
    check_texts(capabilities, commands)
}

fn check_texts(capabilities: &MinerCapabilities, commands: &[String]) -> Result<(), ApiError> {
    let gpus = capabilities.gpus.iter().flat_map(|gpu| {
        [Some(&gpu.name), gpu.driver.as_ref(), gpu.cuda.as_ref()].into_iter().flatten()
    });
    let texts = commands
        .iter()
        .map(|text| ("commands", text))
        .chain(gpus.map(|text| ("gpus", text)))
        .chain(capabilities.isolation.iter().map(|text| ("isolation", text)))
        .chain(capabilities.version.iter().map(|text| ("version", text)));
    for (field, text) in texts {
        // U+0000 above all: PostgreSQL's documents cannot hold it.
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            let message =
                format!("texts must be at most {MAX_TEXT} bytes without control characters");
            return Err(ApiError::field(field, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::Amount;
    use protocol::miner::Slots;

    use super::*;

    fn script() -> MinerCapabilities {
        unregistered("m1".parse().unwrap(), SlotKind::Cpu, false)
    }

    fn refused(change: impl FnOnce(&mut MinerCapabilities)) -> String {
        let mut capabilities = script();
        change(&mut capabilities);
        let error = check(&capabilities).unwrap_err();
        error.details["field"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_script_is_good_for_three_workloads_one_at_a_time() {
        let script = script();
        assert_eq!(check(&script), Ok(()));
        assert_eq!(script.concurrency, 1);
        assert_eq!(script.workloads.len(), SCRIPT_WORKLOADS.len());
    }

    #[test]
    fn nonsense_is_refused_with_its_field() {
        assert_eq!(refused(|c| c.concurrency = 257), "concurrency");
        assert_eq!(refused(|c| c.slots = Some(Slots { cpu: 1, gpu: 9_999 })), "slots");
        assert_eq!(refused(|c| c.price = Some(Amount::from_nanos(-1))), "price");
        assert_eq!(refused(|c| c.version = Some("a\0b".to_owned())), "version");
        assert_eq!(refused(|c| c.commands = Some(vec!["x".repeat(300)])), "commands");
        assert_eq!(refused(|c| drop(c.mining.insert("a\0".into(), true.into()))), "mining");
        assert_eq!(refused(|c| c.models = vec!["m".parse().unwrap(); 2_000]), "models");
        assert_eq!(refused(|c| c.engines = vec!["e".parse().unwrap(); 2_000]), "engines");
    }
}
