//! Values that are one text: ids, names, paths, hashes, moments, codes, keys, decimal numbers.

use std::fmt::{Debug, Display};
use std::path::{Component, Path};
use std::str::FromStr;

use coordinator::accounts::{IdempotencyKey, Presented};
use protocol::id::RelativePath;
use protocol::wallet::Scope;
use protocol::{
    Amount, ErrorCode, FailureCode, JobId, JobState, LeaseToken, Name, Sha256Hex, Timestamp, Units,
    signing,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Every value that is one text, as it comes in paths, queries, headers and JSON.
pub fn scalars(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    one_spelling::<JobId>(text);
    one_spelling::<LeaseToken>(text);
    one_spelling::<Sha256Hex>(text);
    one_spelling::<JobState>(text);
    one_spelling::<ErrorCode>(text);
    one_spelling::<FailureCode>(text);
    one_spelling::<Scope>(text);
    if let Some(name) = one_spelling::<Name>(text) {
        assert!(
            (1..=128).contains(&name.as_str().len()) && text.bytes().all(|b| b.is_ascii_graphic())
        );
    }
    if let Some(path) = one_spelling::<RelativePath>(text) {
        stays_inside(&path);
    }
    if let Some(moment) = reads_back::<Timestamp>(text) {
        assert!(moment.plus_secs(i64::MAX) >= moment.whole_secs());
    }
    keys(text);
}

/// Units, a unit price and a balance, one on each line: the arithmetic of money.
pub fn amounts(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let mut next = || lines.next().unwrap_or_default();
    let (units, price) = (reads_back::<Units>(next()), reads_back::<Amount>(next()));
    let (Some(units), Some(price)) = (units, price) else { return };
    if let Some(total) = units.price(price) {
        assert!(!units.is_negative() && !price.is_negative() && !total.is_negative());
        let exact = i128::from(units.nanos()) * i128::from(price.nanos());
        assert_eq!(i128::from(total.nanos()), exact.div_euclid(1_000_000_000));
    }
    for devices in [0, 1, u32::MAX] {
        if let Some(more) = units.checked_times(devices) {
            assert_eq!(more.nanos(), units.nanos() * i64::from(devices));
        }
    }
    assert_eq!(
        Units::from_micros(units.nanos()).map(Units::nanos),
        units.nanos().checked_mul(1000)
    );
    if let Some(balance) = reads_back::<Amount>(next())
        && let Some(sum) = balance.checked_add(price)
    {
        assert_eq!(sum.checked_sub(price), Some(balance));
    }
}

/// What is read is written in the very same way: nobody has two names.
fn one_spelling<T>(text: &str) -> Option<T>
where
    T: FromStr + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let value = reads_back::<T>(text)?;
    assert_eq!(value.to_string(), text);
    Some(value)
}

/// What is written is read as the same again, and JSON takes exactly what text does.
fn reads_back<T>(text: &str) -> Option<T>
where
    T: FromStr + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let parsed = text.parse::<T>().ok();
    assert_eq!(serde_json::from_value::<T>(Value::from(text)).ok(), parsed, "in JSON");
    let value = parsed?;
    assert_eq!(value.to_string().parse::<T>().ok().as_ref(), Some(&value));
    assert_eq!(serde_json::to_value(&value).ok(), Some(Value::from(value.to_string())));
    Some(value)
}

fn stays_inside(path: &RelativePath) {
    let inside = Path::new(path.as_str());
    assert!(inside.components().all(|part| matches!(part, Component::Normal(_))), "{path}");
    assert!(Path::new("/work").join(inside).starts_with("/work"));
    assert!(!path.as_str().contains(char::is_control) && path.as_str().len() <= 255);
}

fn keys(text: &str) {
    if let Ok(key) = signing::parse_key(text) {
        assert_eq!(signing::key_id(&key), text);
    }
    if let Some(presented) = Presented::parse(text) {
        assert!(text.starts_with(&presented.id));
        assert!(!format!("{presented:?}").contains(&text[presented.id.len()..]));
    }
    if let Ok(key) = IdempotencyKey::parse(text) {
        assert_eq!(IdempotencyKey::parse(&key.to_string()), Ok(key));
    }
    let _ = signing::parse_secret(text);
}
