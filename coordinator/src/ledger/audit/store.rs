//! The SQL of the audit of the books: rules, each with what counts the rows that break it.

use protocol::control::Bonus;
use protocol::{Amount, Units};
use serde::Serialize;
use uuid::Uuid;

use crate::db::{Args, DbError, Tx};

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Transfers looked at.
    pub transfers: i64,
    /// Entries looked at.
    pub entries: i64,
    /// Receipts looked at.
    pub receipts: i64,
    /// Credits issued or paid, in AITBC.
    pub credited: Amount,
    /// What is wrong: a rule, and how often it is broken.
    pub faults: Vec<Fault>,
}

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The rule.
    pub rule: &'static str,
    /// How many rows break it.
    pub rows: i64,
}

/// The rules, each with a statement that counts the rows that break it.
const RULES: &[(&str, &str)] = &[
    (
        "every transfer's entries sum to zero",
        "select count(*) as n from (select transfer_id from entries group by transfer_id
         having sum(amount) <> 0) broken",
    ),
    (
        "every transfer has entries",
        "select count(*) as n from transfers t
         where not exists (select 1 from entries e where e.transfer_id = t.transfer_id)",
    ),
    (
        "every balance is the sum of its entries",
        "select count(*) as n from accounts a
         where a.balance <> coalesce((select sum(e.amount) from entries e
                                      where e.account_id = a.account_id), 0)",
    ),
    (
        "no wallet, client or hold is below zero",
        "select count(*) as n from accounts
         where balance < 0 and name not in ('issuance', 'external')",
    ),
    (
        "every credit has its receipt",
        "select count(*) as n from transfers t where t.kind = 'credit'
         and not exists (select 1 from receipts r where r.transfer_id = t.transfer_id
                         and r.job_id = t.job_id)",
    ),
    (
        "every receipt has its credit to its wallet: its price, less the fee, and the bonus",
        "select count(*) as n from receipts r
         where not exists (select 1 from entries e join accounts a on a.account_id = e.account_id
                           where e.transfer_id = r.transfer_id
                           and a.name = 'wallet:' || r.wallet
                           and e.amount = r.price - r.fee + r.bonus)",
    ),
    (
        "every fee is the share of its price that was fixed when the job was submitted",
        // floor(price x share / 10000), without leaving the range.
        "select count(*) as n from receipts r join jobs j on j.job_id = r.job_id
         where r.fee <> r.price / 10000 * j.fee_bp + r.price % 10000 * j.fee_bp / 10000",
    ),
    (
        "every fee is booked, and nothing else on its account",
        "select count(*) as n from receipts r full join (
             select e.transfer_id, e.amount from entries e
             join accounts a on a.account_id = e.account_id where a.name = 'fee') f
           on f.transfer_id = r.transfer_id
         where coalesce(r.fee, 0) <> coalesce(f.amount, 0)",
    ),
    (
        "what a receipt issues is its price, unless it was held, and its bonus",
        "select count(*) as n from receipts r
         join jobs j on j.job_id = r.job_id
         left join (select e.transfer_id, e.amount from entries e
                    join accounts a on a.account_id = e.account_id where a.name = 'issuance') i
           on i.transfer_id = r.transfer_id
         where coalesce(i.amount, 0)
            <> -(r.bonus + case when j.hold > 0 then 0 else r.price end)",
    ),
    (
        "nothing is issued without a receipt",
        "select count(*) as n from entries e join accounts a on a.account_id = e.account_id
         where a.name = 'issuance'
           and not exists (select 1 from receipts r where r.transfer_id = e.transfer_id)",
    ),
    (
        "every payout goes from wallets to paid_out, and nothing else goes there",
        "select count(*) as n from entries e
         join transfers t on t.transfer_id = e.transfer_id
         join accounts a on a.account_id = e.account_id
         where (t.kind = 'payout' and not (a.name = 'paid_out' and e.amount > 0)
                                  and not (a.name like 'wallet:%' and e.amount < 0))
            or (t.kind <> 'payout' and a.name = 'paid_out')",
    ),
    (
        "every held amount is that of its job",
        "select count(*) as n from jobs j
         where j.hold <> coalesce((select e.amount from transfers t
             join entries e on e.transfer_id = t.transfer_id
             join accounts a on a.account_id = e.account_id
             where t.job_id = j.job_id and t.kind = 'hold' and a.name = 'hold:' || j.client_id), 0)",
    ),
    (
        "every receipt belongs to a completed job, and every completed job has one",
        "select count(*) as n from jobs j full join receipts r on r.job_id = j.job_id
         where (j.outcome = 'COMPLETED') is distinct from (r.job_id is not null)
           and not (j.outcome is null and r.job_id is null)",
    ),
    (
        "every receipt belongs to one accepted attempt",
        "select count(*) as n from receipts r
         where (select count(*) from attempts a where a.job_id = r.job_id
                and a.outcome = 'COMPLETED') <> 1
            or not exists (select 1 from attempts a where a.job_id = r.job_id
                           and a.fence = r.fence and a.outcome = 'COMPLETED')",
    ),
    (
        "a job is in the queue or has ended, never both",
        "select count(*) as n from jobs j full join queue q on q.job_id = j.job_id
         where (j.outcome is null) is distinct from (q.job_id is not null)",
    ),
    (
        "what is promised is what live jobs can issue",
        "select count(*) as n from (select coalesce(sum(amount), 0) as kept from promises) p
         where p.kept <> (select coalesce(sum(issue_most), 0) from jobs where outcome is null)",
    ),
    (
        "holds are what live jobs set aside",
        "select count(*) as n from accounts a where a.name like 'hold:%'
         and a.balance <> coalesce((select sum(j.hold) from jobs j where j.outcome is null
                                    and 'hold:' || j.client_id = a.name), 0)",
    ),
];

/// All rules, as [`Fault::rule`] names them.
pub fn rules() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(rule, _)| *rule).chain([BONUS_RULE])
}

/// Recomputes everything from the entries.
///
/// # Errors
/// Where the database does.
pub async fn audit(tx: &mut Tx) -> Result<Audit, DbError> {
    let mut faults = Vec::new();
    for (rule, sql) in RULES {
        let rows = count(tx, sql).await?;
        if rows > 0 {
            faults.push(Fault { rule, rows });
        }
    }
    let rows = wrong_bonuses(tx).await?;
    if rows > 0 {
        faults.push(Fault { rule: BONUS_RULE, rows });
    }
    let credited = "select cast(coalesce(sum(price), 0) as bigint) as n from receipts";
    Ok(Audit {
        transfers: count(tx, "select count(*) as n from transfers").await?,
        entries: count(tx, "select count(*) as n from entries").await?,
        receipts: count(tx, "select count(*) as n from receipts").await?,
        credited: Amount::from_nanos(count(tx, credited).await?),
        faults,
    })
}

/// What cannot be said in a statement: the arithmetic of a bonus leaves the range of a column.
const BONUS_RULE: &str = "every bonus is what its price, its job's terms and its metric give";

/// How many receipts are looked at in one statement.
const PAGE: i64 = 10_000;

async fn wrong_bonuses(tx: &mut Tx) -> Result<i64, DbError> {
    let sql = "select r.transfer_id, r.price, r.bonus as paid, r.measured, j.bonus as terms
               from receipts r join jobs j on j.job_id = r.job_id
               where r.transfer_id > $1 and (r.bonus <> 0 or j.bonus is not null)
               order by r.transfer_id limit $2";
    let (mut wrong, mut after) = (0, Uuid::nil());
    loop {
        let rows = tx.rows(sql, Args::new().with(after).with(PAGE)).await?;
        for row in &rows {
            after = row.get("transfer_id")?;
            let terms: Option<Bonus> = row.json_opt("terms")?;
            let measured = row.get::<Option<i64>>("measured")?.map(Units::from_nanos);
            let price: Amount = row.get("price")?;
            let due = terms.zip(measured).map(|(terms, measured)| terms.earned(price, measured));
            let paid: Amount = row.get("paid")?;
            wrong += i64::from(paid != due.unwrap_or(Amount::ZERO));
        }
        if (rows.len() as u64) < PAGE.unsigned_abs() {
            return Ok(wrong);
        }
    }
}

async fn count(tx: &mut Tx, sql: &'static str) -> Result<i64, DbError> {
    match tx.row(sql, Args::new()).await? {
        Some(row) => row.get("n"),
        None => Ok(0),
    }
}
