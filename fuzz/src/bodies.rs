//! JSON bodies of requests, as the handlers read them.

use std::fmt::Debug;

use coordinator::accounts::keys;
use coordinator::miners::capabilities;
use coordinator::wire;
use protocol::client::NewJob;
use protocol::control::Controls;
use protocol::miner::{
    Ack, Drain, Fail, Heartbeat, KeyRotation, LogChunk, Progress, UploadMetadata,
};
use protocol::proof::artifacts_root;
use protocol::wallet::{Deposit, NewKey};
use protocol::{ErrorCode, MinerCapabilities, Proof};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// The body of every request: each type reads it or refuses it, and writes what it read.
pub fn bodies(data: &[u8]) {
    body::<NewJob>(data);
    body::<Ack>(data);
    body::<Progress>(data);
    body::<LogChunk>(data);
    body::<Fail>(data);
    body::<Drain>(data);
    body::<KeyRotation>(data);
    body::<Deposit>(data);
    body::<Controls>(data);
    body::<UploadMetadata>(data);
    if let Some(new) = body::<NewKey>(data) {
        let _ = keys::binding(&new);
    }
    if let Some(proof) = body::<Proof>(data) {
        let mut turned = proof.artifacts.clone();
        turned.reverse();
        let twice = |path| proof.artifacts.iter().filter(|one| one.path == path).count() > 1;
        if !proof.artifacts.iter().any(|one| twice(one.path.clone())) {
            assert_eq!(artifacts_root(&turned), artifacts_root(&proof.artifacts));
        }
    }
    if let Some(stated) = body::<MinerCapabilities>(data) {
        let _ = capabilities::check(&stated);
    }
    if let Some(stated) = body::<Heartbeat>(data).and_then(|heartbeat| heartbeat.capabilities) {
        let _ = capabilities::check(&stated);
    }
}

fn body<T: DeserializeOwned + Serialize + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    match wire::parse::<T>(data) {
        Ok(value) => {
            let text = serde_json::to_vec(&value).expect("it is made of JSON");
            assert_eq!(wire::parse::<T>(&text).as_ref(), Ok(&value));
            Some(value)
        }
        Err(error) => {
            let is_json = serde_json::from_slice::<IgnoredAny>(data).is_ok();
            match error.code {
                ErrorCode::InvalidPayload => {
                    assert!(is_json && error.details.contains_key("field"))
                }
                code => assert_eq!(code, ErrorCode::InvalidJson),
            }
            assert!(!error.message.is_empty());
            None
        }
    }
}
