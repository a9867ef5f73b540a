//! Which decisions make sense: every wrong value is named by its path. Pure.

use std::collections::BTreeMap;

use protocol::control::{Bonus, Controls, Prices, UnitPrice};
use protocol::{Amount, Name};
use serde::Serialize;

use crate::error::ApiError;

/// The longest reason, in bytes.
const MAX_REASON: usize = 256;

/// The most clients, or banned miners, or banned wallets, or workloads with a price.
const MAX_ENTRIES: usize = 10_000;

/// A hundred per cent.
const WHOLE_BP: u16 = 10_000;

/// A value that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where it is.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.field, self.message)
    }
}

/// What is found while looking.
#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn refuse(&mut self, wrong: bool, field: impl FnOnce() -> String, message: &str) {
        if wrong {
            self.0.push(Problem { field: field(), message: message.to_owned() });
        }
    }

    fn reason(&mut self, text: &str, field: impl FnOnce() -> String) {
        let wrong = text.is_empty() || text.len() > MAX_REASON || text.contains('\0');
        self.refuse(wrong, field, "must be 1 to 256 bytes without U+0000");
    }

    fn reasons(&mut self, list: &BTreeMap<Name, String>, field: &str) {
        self.refuse(list.len() > MAX_ENTRIES, || field.to_owned(), "at most 10,000 of them");
        for (name, reason) in list {
            self.reason(reason, || format!("{field}.{name}"));
        }
    }

    fn price(&mut self, price: &UnitPrice, field: &str) {
        let negative = price.unit_price < Amount::ZERO;
        self.refuse(negative, || format!("{field}.unit_price"), "must not be negative");
        if let Some(Bonus { from, full_at, max_bp, .. }) = price.bonus {
            let path = |name: &str| format!("{field}.bonus.{name}");
            self.refuse(from >= full_at, || path("full_at"), "must be more than from");
            self.refuse(max_bp > WHOLE_BP, || path("max_bp"), "must be 0 to 10000");
        }
    }

    fn prices(&mut self, prices: &Prices, field: &str) {
        let path = |name: &str| format!("{field}.{name}");
        let many = prices.workloads.len() > MAX_ENTRIES;
        self.refuse(many, || path("workloads"), "at most 10,000 of them");
        self.price(&prices.gpu, &path("gpu"));
        self.price(&prices.cpu, &path("cpu"));
        for (workload, price) in &prices.workloads {
            self.price(price, &path(&format!("workloads.{workload}")));
        }
    }
}

/// What is wrong with decisions.
pub fn check(controls: &Controls) -> Vec<Problem> {
    let mut found = Findings::default();
    found.refuse(controls.fee_bp > WHOLE_BP, || "fee_bp".to_owned(), "must be 0 to 10000");
    let negative = controls.daily_cap.is_some_and(Amount::is_negative);
    found.refuse(negative, || "daily_cap".to_owned(), "must not be negative");
    if let Some(prices) = &controls.prices {
        found.prices(prices, "prices");
    }
    let many = controls.clients.len() > MAX_ENTRIES;
    found.refuse(many, || "clients".to_owned(), "at most 10,000 of them");
    for (client, control) in &controls.clients {
        let path = |name: &str| format!("clients.{client}.{name}");
        if let Some(reason) = &control.banned {
            found.reason(reason, || path("banned"));
        }
        let weight = control.weight.is_some_and(|weight| !(1..=1000).contains(&weight));
        found.refuse(weight, || path("weight"), "must be 1 to 1000");
    }
    found.reasons(&controls.banned_miners, "banned_miners");
    found.reasons(&controls.banned_wallets, "banned_wallets");
    found.0
}

/// What is wrong with prices that stand under `field`.
pub fn prices(prices: &Prices, field: &str) -> Vec<Problem> {
    let mut found = Findings::default();
    found.prices(prices, field);
    found.0
}

/// `INVALID_PAYLOAD` with all problems, if there are any.
pub(super) fn refuse(problems: &[Problem]) -> Result<(), ApiError> {
    let Some(first) = problems.first() else { return Ok(()) };
    let shown: Vec<_> = problems.iter().take(100).collect();
    let list = serde_json::to_value(shown).unwrap_or_default();
    Err(ApiError::field(&first.field, first.to_string()).with("problems", list))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(controls: serde_json::Value) -> Vec<String> {
        let controls = serde_json::from_value(controls).unwrap();
        check(&controls).into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn the_defaults_make_sense() {
        assert_eq!(check(&Controls::default()), []);
        assert_eq!(prices(&Prices::default(), "prices"), []);
    }

    #[test]
    fn each_wrong_value_is_named_by_its_path() {
        let bonus = json!({"metric": "tokens_per_kJ", "from": 5, "full_at": 5, "max_bp": 10_001});
        let wrong = json!({
            "fee_bp": 10_001, "daily_cap": "-1",
            "prices": {
                "workloads": {"llm_gen": {"unit_type": "tokens", "unit_price": "-1", "bonus": bonus}},
                "gpu": {"unit_type": "gpu_seconds", "unit_price": "1"},
                "cpu": {"unit_type": "cpu_seconds", "unit_price": "-1"},
            },
            "clients": {"c1": {"banned": "", "weight": 0}, "c2": {"weight": 1001}},
            "banned_miners": {"m1": ""}, "banned_wallets": {"w1": "\u{0}"},
        });
        let expected = [
            "fee_bp",
            "daily_cap",
            "prices.cpu.unit_price",
            "prices.workloads.llm_gen.unit_price",
            "prices.workloads.llm_gen.bonus.full_at",
            "prices.workloads.llm_gen.bonus.max_bp",
            "clients.c1.banned",
            "clients.c1.weight",
            "clients.c2.weight",
            "banned_miners.m1",
            "banned_wallets.w1",
        ];
        assert_eq!(fields(wrong), expected);
    }

    #[test]
    fn a_refusal_names_the_first_and_lists_all() {
        let controls = Controls {
            fee_bp: 20_000,
            daily_cap: Some(Amount::from_nanos(-1)),
            ..Controls::default()
        };
        let error = refuse(&check(&controls)).unwrap_err();
        assert_eq!(error.details["field"], "fee_bp");
        assert_eq!(error.details["problems"][1]["field"], "daily_cap");
    }
}
