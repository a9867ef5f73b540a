//! The owner's consent: which jobs this node takes. Pure.

use protocol::{FailureCode, Job};

use crate::config::Accept;
use crate::runners::Refusal;

/// Whether the owner consents to `job`.
///
/// # Errors
/// [`FailureCode::Deny`] with the first condition that does not hold.
pub fn check(accept: &Accept, job: &Job) -> Result<(), Refusal> {
    let deny = |why: String| Err(Refusal::new(FailureCode::Deny, why));
    if !accept.workloads.contains(&job.workload) {
        return deny(format!("this node does not accept workload {}", job.workload));
    }
    if !accept.clients.contains(&job.client) {
        return deny(format!("this node does not work for client {}", job.client));
    }
    if job.price.unit_price < accept.min_price {
        return deny(format!(
            "{} per unit is below this node's least price of {}",
            job.price.unit_price, accept.min_price
        ));
    }
    match job.limits.max_runtime_s {
        Some(secs) if secs > accept.max_runtime_s => deny(format!(
            "a run time of {secs} s is above this node's limit of {} s",
            accept.max_runtime_s
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use protocol::Amount;

    use super::*;
    use crate::config::Selection;
    use crate::runners::tests::job;

    #[test]
    fn by_default_everything_is_accepted() {
        assert!(check(&Accept::default(), &job("hash")).is_ok());
    }

    #[test]
    fn each_condition_is_told() {
        let price = |nanos| Amount::from_nanos(nanos);
        let only = |name: &str| Selection::Only(vec![name.parse().unwrap()]);
        let cases = [
            (Accept { workloads: only("other"), ..Accept::default() }, "workload hash"),
            (Accept { clients: only("other"), ..Accept::default() }, "client"),
            (Accept { min_price: price(1_000_000_000), ..Accept::default() }, "least price of 1"),
            (Accept { max_runtime_s: 59, ..Accept::default() }, "60 s"),
        ];
        for (accept, word) in cases {
            let refusal = check(&accept, &job("hash")).unwrap_err();
            assert_eq!(refusal.code, FailureCode::Deny);
            assert!(refusal.message.contains(word), "{}", refusal.message);
        }
    }
}
