//! Proofs that were refused, for whoever asks why.

use protocol::{JobId, Name, Timestamp};

use crate::db::{Args, DbError, Rows, Tx};
use crate::error::ApiError;

/// The longest reason of a refusal that is kept, in bytes.
const MESSAGE_BYTES: usize = 512;

/// A proof that was refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Of which job.
    pub job_id: JobId,
    /// Whose key it came with; `None`: anybody's.
    pub wallet: Option<Name>,
    /// The only miner that this key may act for, if there is one.
    pub miner_id: Option<Name>,
    /// Why.
    pub error: ApiError,
}

/// Notes why proofs were refused, with the last attempt that their callers had of the job; a caller
/// that never had it leaves no trace.
///
/// # Errors
/// Where the database does.
pub async fn refuse(tx: &mut Tx, now: Timestamp, refusals: &[Refusal]) -> Result<(), DbError> {
    if refusals.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(tx.engine());
    for Refusal { job_id, wallet, miner_id, error } in refusals {
        let message = &error.message[..error.message.floor_char_boundary(MESSAGE_BYTES)];
        rows.row()
            .set("job_id", *job_id)
            .set("wallet", wallet.as_ref().map(Name::to_string))
            .set("miner_id", miner_id.as_ref().map(Name::to_string))
            .set("code", error.code.as_str())
            .set("message", message.replace('\0', "\u{fffd}"))
            .done();
    }
    let sql = tx.either(
        "update attempts a set refusal_code = r.code, refusal_message = r.message, refused_at = $2
         from jsonb_to_recordset($1) as r(job_id uuid, wallet text, miner_id text, code text,
             message text)
         where a.job_id = r.job_id and a.fence = (
             select max(b.fence) from attempts b join miners m on m.miner_no = b.miner_no
             where b.job_id = r.job_id and (r.wallet is null or m.wallet = r.wallet)
               and (r.miner_id is null or b.miner_id = r.miner_id))",
        "update attempts set refusal_code = r.value ->> 'code',
             refusal_message = r.value ->> 'message', refused_at = $2
         from json_each($1) r
         where attempts.job_id = r.value ->> 'job_id' and attempts.fence = (
             select max(b.fence) from attempts b join miners m on m.miner_no = b.miner_no
             where b.job_id = r.value ->> 'job_id'
               and (r.value ->> 'wallet' is null or m.wallet = r.value ->> 'wallet')
               and (r.value ->> 'miner_id' is null or b.miner_id = r.value ->> 'miner_id'))",
    );
    tx.execute(sql, Args::new().with_rows(rows).with(now)).await?;
    Ok(())
}
