//! Keys: how they are made, presented and compared, and what they are bound to.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use protocol::wallet::{CreatedKey, MAX_WEIGHT, NewKey, Scope};
use protocol::{Name, Sha256Hex, Timestamp};
use serde_json::json;
use subtle::ConstantTimeEq as _;

use super::Binding;
use super::store::{self, Revoked};
use crate::audit::{self, Action, Record};
use crate::db::{Db, DbError};
use crate::error::ApiError;

/// A key just made. The secret exists here and in the hands of whoever asked for it.
pub struct Minted {
    /// Its public part.
    pub id: String,
    /// The whole key, `id.secret`.
    pub key: String,
    /// What is stored.
    pub secret_sha256: Sha256Hex,
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Minted {
    /// From randomness: 64 bits for the id, 256 for the secret.
    pub fn from_random(scope: Scope, id: [u8; 8], secret: [u8; 32]) -> Self {
        let id = format!("{scope}-{}", hex::encode(id));
        let secret = URL_SAFE_NO_PAD.encode(secret);
        let secret_sha256 = Sha256Hex::of(secret.as_bytes());
        Self { key: format!("{id}.{secret}"), id, secret_sha256 }
    }
}

/// A key as a request presents it: its id, and the hash of its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Its public part.
    pub id: String,
    secret_sha256: Sha256Hex,
}

impl Presented {
    /// Parses `id.secret`. `None` for what no coordinator ever issued, such as the `CHANGE_ME` of
    /// a sample file.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.split_once('.')?;
        let (scope, number) = id.split_once('-')?;
        let _: Scope = scope.parse().ok()?;
        let plain = number.len() == 16 && number.bytes().all(|b| b.is_ascii_hexdigit());
        let issued = plain && secret.len() == 43 && URL_SAFE_NO_PAD.decode(secret).is_ok();
        issued.then(|| Self { id: id.to_owned(), secret_sha256: Sha256Hex::of(secret.as_bytes()) })
    }

    /// Whether the secret is the stored one; takes the same time whatever differs.
    pub fn matches(&self, stored: &Sha256Hex) -> bool {
        self.secret_sha256.as_bytes().ct_eq(stored.as_bytes()).into()
    }
}

/// What a new key is bound to.
///
/// # Errors
/// `INVALID_PAYLOAD` where the scope's own field is missing, another scope's is present, or the weight
/// is out of its range.
pub fn binding(new: &NewKey) -> Result<Binding, ApiError> {
    let none = |field: &str, value: &Option<Name>| match value {
        Some(_) => Err(ApiError::field(field, format!("does not go with scope {}", new.scope))),
        None => Ok(()),
    };
    let some = |field: &str, value: &Option<Name>| {
        let missing = || ApiError::field(field, format!("is needed for scope {}", new.scope));
        value.clone().ok_or_else(missing)
    };
    if new.scope != Scope::Client {
        let stated = [("funding", new.funding.is_some()), ("weight", new.weight.is_some())];
        if let Some((field, _)) = stated.into_iter().find(|(_, stated)| *stated) {
            return Err(ApiError::field(field, format!("does not go with scope {}", new.scope)));
        }
    }
    if new.weight.is_some_and(|weight| !(1..=MAX_WEIGHT).contains(&weight)) {
        return Err(ApiError::field("weight", format!("must be 1 to {MAX_WEIGHT}")));
    }
    match new.scope {
        Scope::Client => {
            none("wallet", &new.wallet)?;
            none("miner_id", &new.miner_id)?;
            Ok(Binding::Client { client: some("client", &new.client)? })
        }
        Scope::Miner => {
            none("client", &new.client)?;
            let wallet = some("wallet", &new.wallet)?;
            Ok(Binding::Miner { wallet, miner_id: new.miner_id.clone() })
        }
        Scope::Admin => {
            none("client", &new.client)?;
            none("wallet", &new.wallet)?;
            none("miner_id", &new.miner_id)?;
            Ok(Binding::Admin)
        }
    }
}

/// Makes a key, and its client if there is none of that name. Funding and weight, where stated,
/// also change a client that is there.
///
/// # Errors
/// `INVALID_PAYLOAD` where the binding does not fit the scope; otherwise as the database fails.
pub async fn issue(
    db: &Db,
    now: Timestamp,
    actor: &str,
    new: &NewKey,
    minted: Minted,
) -> Result<CreatedKey, ApiError> {
    let binding = binding(new)?;
    let mut tx = db.write().await?;
    if let Binding::Client { client } = &binding {
        store::put_client(&mut tx, now, client, new.funding, new.weight).await?;
    }
    store::add_key(&mut tx, now, &minted, new.scope, &binding).await?;
    let mut data = json!({
        "scope": new.scope, "client": new.client, "wallet": new.wallet, "miner_id": new.miner_id,
    });
    if new.funding.is_some() || new.weight.is_some() {
        data["terms"] = json!({ "funding": new.funding, "weight": new.weight });
    }
    let (action, subject) = (Action::CreateKey, minted.id.as_str());
    audit::store::append(&mut tx, now, Record { actor, action, subject, data }).await?;
    tx.commit().await?;
    Ok(CreatedKey { id: minted.id, key: minted.key, scope: new.scope })
}

/// Revokes a key; `false` where there is none of this id. A second time changes nothing.
///
/// # Errors
/// Where the database fails.
pub async fn revoke(db: &Db, now: Timestamp, actor: &str, id: &str) -> Result<bool, DbError> {
    let mut tx = db.write().await?;
    let revoked = store::revoke_key(&mut tx, now, id).await?;
    if revoked == Revoked::Now {
        let (action, data) = (Action::RevokeKey, json!({}));
        audit::store::append(&mut tx, now, Record { actor, action, subject: id, data }).await?;
    }
    tx.commit().await?;
    Ok(revoked != Revoked::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_key_is_presented_and_matches() {
        let minted = Minted::from_random(Scope::Miner, [1; 8], [2; 32]);
        let presented = Presented::parse(&minted.key).unwrap();
        assert_eq!(presented.id, minted.id);
        assert!(presented.matches(&minted.secret_sha256));
        let other = Minted::from_random(Scope::Miner, [1; 8], [3; 32]);
        assert!(!presented.matches(&other.secret_sha256));
        let secret = minted.key.split_once('.').unwrap().1;
        assert!(!format!("{minted:?}{presented:?}").contains(secret));
    }

    #[test]
    fn what_nobody_issued_is_no_key() {
        let minted = Minted::from_random(Scope::Miner, [1; 8], [2; 32]).key;
        for text in [
            "",
            ".",
            "CHANGE_ME",
            "REPLACE_WITH_WALLET_API_KEY",
            "miner-0101010101010101.CHANGE_ME",
            "root-0101010101010101.AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI",
            &minted[..minted.len() - 1],
            &format!("{minted}A"),
        ] {
            assert_eq!(Presented::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_is_bound_to_what_its_scope_needs() {
        let name = |text: &str| Some(text.parse::<Name>().unwrap());
        let new = |scope, client, wallet, miner_id| NewKey {
            scope,
            client,
            wallet,
            miner_id,
            funding: None,
            weight: None,
        };
        let refused = |new: &NewKey| binding(new).unwrap_err().details["field"].clone();
        assert_eq!(binding(&new(Scope::Admin, None, None, None)), Ok(Binding::Admin));
        assert_eq!(refused(&new(Scope::Admin, None, name("w"), None)), "wallet");
        assert_eq!(refused(&new(Scope::Client, None, None, None)), "client");
        assert_eq!(refused(&new(Scope::Client, name("c"), None, name("m"))), "miner_id");
        assert_eq!(refused(&new(Scope::Miner, None, None, name("m"))), "wallet");
        let bound = binding(&new(Scope::Miner, None, name("w"), name("m"))).unwrap();
        assert_eq!(bound, Binding::Miner { wallet: name("w").unwrap(), miner_id: name("m") });
    }
}
