//! Receipts and the bytes that are signed.

use ed25519_dalek::SigningKey;
use protocol::{Receipt, Units, canonical as form};
use serde_json::Value;

/// Any JSON: its canonical form is JSON, of the same content, and its own canonical form.
pub fn canonical(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    let text = form::to_string(&value);
    let again: Value = serde_json::from_str(&text).expect("canonical form is JSON");
    assert_eq!(again, without_nulls(value));
    assert_eq!(form::to_string(&again), text);
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (key, without_nulls(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        scalar => scalar,
    }
}

/// A receipt: what is signed does not depend on who reads it, and nothing signed can be changed.
pub fn receipt(data: &[u8]) {
    let Ok(receipt) = serde_json::from_slice::<Receipt>(data) else { return };
    let text = serde_json::to_string(&receipt).expect("a receipt is JSON");
    let again: Receipt = serde_json::from_str(&text).expect("it was written by us");
    assert_eq!(again, receipt);
    assert_eq!(again.canonical(), receipt.canonical());
    assert_eq!(Receipt::from_text(&text).as_ref(), Ok(&receipt));
    if receipt.verify().is_ok() {
        assert!(changed(&receipt).verify().is_err());
    }
    let bare = Receipt { signature: None, attestations: Vec::new(), ..receipt };
    let (miner, coordinator) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    let signed = bare.clone().signed(&miner).attested(&coordinator);
    assert_eq!(signed.hash(), bare.hash());
    assert_eq!(signed.verify(), bare.check_content());
    if signed.verify().is_ok() {
        assert!(signed.canonical().is_ascii());
        assert_eq!(bare.units.price(bare.unit_price), Some(bare.price));
        assert!(changed(&signed).verify().is_err());
    }
}

/// The same receipt with another nonce, or with other units whose price is the same.
fn changed(receipt: &Receipt) -> Receipt {
    let more = receipt.units.checked_add(Units::from_nanos(1));
    match more.filter(|units| units.price(receipt.unit_price) == Some(receipt.price)) {
        Some(units) => Receipt { units, ..receipt.clone() },
        None => Receipt { nonce: format!("{}0", receipt.nonce), ..receipt.clone() },
    }
}
