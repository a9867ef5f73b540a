//! Keys for the benchmarks: of the client and of the wallet `bench`.

use coordinator::accounts::keys::{Minted, issue};
use coordinator::app::{SharedApp, random_u128};
use protocol::wallet::{NewKey, Scope};

/// Makes a key.
pub async fn key(app: &SharedApp, scope: Scope) -> String {
    let name = || Some("bench".parse().expect("a name"));
    let new = NewKey {
        scope,
        client: (scope == Scope::Client).then(name).flatten(),
        wallet: (scope == Scope::Miner).then(name).flatten(),
        miner_id: None,
        funding: None,
        weight: None,
    };
    let mut secret = [0; 32];
    secret[..16].copy_from_slice(&random_u128().to_be_bytes());
    let id = random_u128().to_be_bytes()[..8].try_into().expect("eight bytes");
    let minted = Minted::from_random(scope, id, secret);
    issue(&app.db, app.now(), "bench", &new, minted).await.expect("a key").key
}
