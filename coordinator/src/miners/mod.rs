//! Miners: who they are, what they offer, and the rules by which they may say so.
//!
//! Which of them are there right now is in [`presence`]; which jobs they may take is not decided
//! here but in `dispatch`.

pub mod admin_routes;
pub mod capabilities;
mod introduction;
mod keys;
pub mod presence;
mod release;
mod reputation;
pub mod routes;
pub mod store;

use protocol::{MinerCapabilities, Name};

pub use capabilities::{check, unregistered};
pub use presence::Presence;
pub use reputation::reputation;

use crate::config::Leases;

/// A miner, as the coordinator knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Miner {
    /// Its number, which rows refer to.
    pub no: i64,
    /// Its label, which people refer to.
    pub id: Name,
    /// The wallet that is credited for its work.
    pub wallet: Name,
    /// False: known by its heartbeats only (the seed's script).
    pub registered: bool,
    /// The key that signs its receipts, base64url; `None` until it registers one.
    pub pubkey: Option<String>,
    /// It gets no more jobs.
    pub drain: bool,
    /// It said `E_NOGPU`: no GPU jobs until its capabilities change.
    pub gpu_lost: bool,
    /// What it offers; `wallet` and `pubkey` are always absent in here.
    pub capabilities: MinerCapabilities,
}

/// Heartbeats a second that the coordinator is willing to take from miners that hold nothing.
const HEARTBEATS_PER_SEC: u32 = 50;

/// The longest heartbeat interval that is asked of a miner that holds a lease, in seconds.
const LEASED_HEARTBEAT_SECS: u32 = 20;

/// When to send the next heartbeat, in seconds: a miner that holds a lease must renew it in time,
/// the others share the rate that the coordinator is willing to take.
pub fn heartbeat_secs(leases: &Leases, online: usize, holds_lease: bool) -> u32 {
    if holds_lease {
        return (leases.lease_secs / 3).clamp(1, LEASED_HEARTBEAT_SECS);
    }
    let fleet = u32::try_from(online).unwrap_or(u32::MAX);
    leases.heartbeat_secs.max(fleet.div_ceil(HEARTBEATS_PER_SEC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leased_miner_reports_in_a_third_of_the_lease_whatever_the_fleet() {
        let leases = Leases::default();
        assert_eq!(heartbeat_secs(&leases, 1, true), 10);
        assert_eq!(heartbeat_secs(&leases, 1_000_000, true), 10);
        let long = Leases { lease_secs: 600, ..Leases::default() };
        assert_eq!(heartbeat_secs(&long, 1, true), 20);
        let short = Leases { lease_secs: 2, ..Leases::default() };
        assert_eq!(heartbeat_secs(&short, 1, true), 1);
    }

    #[test]
    fn idle_miners_share_a_rate() {
        let leases = Leases::default();
        assert_eq!(heartbeat_secs(&leases, 0, false), 20);
        assert_eq!(heartbeat_secs(&leases, 1_000, false), 20);
        assert_eq!(heartbeat_secs(&leases, 50_001, false), 1_001);
    }
}
