//! Clients of a batch: locked, counted, written back.

use std::collections::{BTreeMap, BTreeSet};

use protocol::job::SlotKind;
use protocol::{Name, Timestamp};

use super::Rules;
use crate::controls::InForce;
use crate::db::{Args, DbError, Row, Rows, Tx};
use crate::intake::Submission;
use crate::intake::rank::Share;

/// A client, locked.
pub(super) struct Client {
    pub prepaid: bool,
    pub cpu: Share,
    pub gpu: Share,
    /// Jobs in the queue and at work, where somebody wants to know.
    pub live: u64,
    /// Jobs submitted today.
    pub today: u64,
}

impl Client {
    pub(super) const fn share(&mut self, kind: SlotKind) -> &mut Share {
        match kind {
            SlotKind::Cpu => &mut self.cpu,
            SlotKind::Gpu => &mut self.gpu,
        }
    }
}

pub(super) async fn lock_clients(
    tx: &mut Tx,
    rules: &Rules<'_>,
    submissions: &[&Submission],
) -> Result<BTreeMap<Name, Client>, DbError> {
    let names: BTreeSet<&str> = submissions.iter().map(|s| s.client.as_str()).collect();
    let names = Rows::list(tx.engine(), names);
    let sql = tx.either(
        "select client_id, funding, weight, last_rank, last_gpu_rank,
             forgone_rank, forgone_gpu_rank, day, day_jobs from clients
         where client_id = any($1)
         order by client_id || '' for no key update",
        "select client_id, funding, weight, last_rank, last_gpu_rank,
             forgone_rank, forgone_gpu_rank, day, day_jobs from clients
         where client_id in (select value ->> 'v' from json_each($1))",
    );
    let mut clients = BTreeMap::new();
    for row in tx.rows(sql, Args::new().with_rows(names)).await? {
        let (name, client) = client(&row, rules)?;
        clients.insert(name, client);
    }
    count_live(tx, rules.in_force, &mut clients).await?;
    Ok(clients)
}

/// A client as its row has it; its live jobs are not counted yet.
pub(super) fn client(row: &Row, rules: &Rules<'_>) -> Result<(Name, Client), DbError> {
    let name: Name = row.parse("client_id")?;
    let today = row.get::<i32>("day")? == rules.now.day();
    let submitted = u64::try_from(row.get::<i32>("day_jobs")?).unwrap_or(0);
    let weight = match rules.in_force.weight_of(&name) {
        Some(weight) => i64::from(weight),
        None => i64::from(row.get::<i32>("weight")?),
    };
    let client = Client {
        prepaid: row.get::<String>("funding")? == "prepaid",
        cpu: Share { weight, last_rank: row.get("last_rank")?, forgone: row.get("forgone_rank")? },
        gpu: Share {
            weight,
            last_rank: row.get("last_gpu_rank")?,
            forgone: row.get("forgone_gpu_rank")?,
        },
        live: 0,
        today: if today { submitted } else { 0 },
    };
    Ok((name, client))
}

/// Counts the live jobs of those for whom that matters. They are locked: until the transaction ends
/// their live jobs become no more.
pub(super) async fn count_live(
    tx: &mut Tx,
    in_force: &InForce,
    clients: &mut BTreeMap<Name, Client>,
) -> Result<(), DbError> {
    let counted = clients.keys().filter(|name| in_force.counts_live_jobs(name));
    let names = Rows::list(tx.engine(), counted.map(Name::as_str));
    if names.is_empty() {
        return Ok(());
    }
    let sql = tx.either(
        "select client_id, count(*) as live from jobs where outcome is null
         and client_id = any($1) group by client_id",
        "select client_id, count(*) as live from jobs where outcome is null
         and client_id in (select value ->> 'v' from json_each($1)) group by client_id",
    );
    for row in tx.rows(sql, Args::new().with_rows(names)).await? {
        let name: Name = row.parse("client_id")?;
        if let Some(client) = clients.get_mut(&name) {
            client.live = u64::try_from(row.get::<i64>("live")?).unwrap_or(0);
        }
    }
    Ok(())
}

pub(super) async fn save_clients(
    tx: &mut Tx,
    now: Timestamp,
    clients: &BTreeMap<Name, Client>,
) -> Result<(), DbError> {
    let mut rows = Rows::new(tx.engine());
    for (name, client) in clients {
        rows.row()
            .set("client_id", name.as_str())
            .set("last_rank", client.cpu.last_rank)
            .set("last_gpu_rank", client.gpu.last_rank)
            .set("forgone_rank", client.cpu.forgone)
            .set("forgone_gpu_rank", client.gpu.forgone)
            .set("day_jobs", i32::try_from(client.today).unwrap_or(i32::MAX))
            .done();
    }
    let sql = tx.either(
        "update clients c set last_rank = r.last_rank, last_gpu_rank = r.last_gpu_rank,
             forgone_rank = r.forgone_rank, forgone_gpu_rank = r.forgone_gpu_rank,
             day = $2, day_jobs = r.day_jobs
         from jsonb_to_recordset($1) as r(client_id text, last_rank bigint, last_gpu_rank bigint,
             forgone_rank bigint, forgone_gpu_rank bigint, day_jobs int)
         where c.client_id = any(array[r.client_id])",
        "update clients set last_rank = r.value ->> 'last_rank',
             last_gpu_rank = r.value ->> 'last_gpu_rank',
             forgone_rank = r.value ->> 'forgone_rank',
             forgone_gpu_rank = r.value ->> 'forgone_gpu_rank',
             day = $2, day_jobs = r.value ->> 'day_jobs'
         from json_each($1) r where client_id = r.value ->> 'client_id'",
    );
    tx.execute(sql, Args::new().with_rows(rows).with(now.day())).await?;
    Ok(())
}
