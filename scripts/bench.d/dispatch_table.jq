# A report of dispatch, for people.

def short: if . == null then "" elif . >= 100 then round else . * 100 | round / 100 end;
def ms: if . == null then "" else "\(.p50_ms | short) / \(.p99_ms | short)" end;
def spoken: "p50 \(.p50_ms | short) ms, p99 \(.p99_ms | short) ms";
def back: "\(if .to_first_credit_ms == 0 then "no tenth of a second without a credit" else "the first credit after \(.to_first_credit_ms) ms" end), \(if .to_90_percent_ms then "90 % of the rate before after \(.to_90_percent_ms) ms" else "never again 90 % of the rate before" end)";

def names: {floor_1: "PostgreSQL alone: claim 1, complete (pgbench)",
    floor_50: "PostgreSQL alone: claim 50, complete 50",
    graphile_plain: "graphile-worker", graphile_batched: "graphile-worker, its batched preset",
    graphile_rust_plain: "graphile_worker in Rust", graphile_rust_batched: "graphile_worker in Rust, as its own benchmark",
    procrastinate: "procrastinate", pgmq_1: "pgmq: read 1, delete", pgmq_50: "pgmq: read 50, delete 50",
    storage: "the coordinator without HTTP: claim, verify, settle, with receipt and ledger",
    same_rows: "pgbench writing the same rows in the same batches",
    http: "a bare handler over HTTP, requests per second",
    http_verify: "the same, verifying one signature each",
    postgres: "the coordinator on PostgreSQL: HTTP, keys, lease, signed receipt, ledger",
    priorities: "the same with 10 priorities",
    backlog: "the same behind \(.backlog_jobs) jobs that nobody can run",
    sqlite: "the coordinator on SQLite"};

. as $all
| "| | jobs/s | clients | to the first | \(if .against then "to \(.against.date) (\(.against.commit))" else "to a run before" end) | submit to start, p50 / p99 ms | submit to credit |",
  "| --- | --- | --- | --- | --- | --- | --- |",
  (names | to_entries[] | .key as $key | select($all.per_sec[$key])
    | "| \(.value) | \($all.per_sec[$key] | round) | \($all.clients[$key] // "") | \(if $all.per_sec.floor_1 then $all.per_sec[$key] / $all.per_sec.floor_1 | short else "" end) | \($all.against.per_sec[$key]? | short) | \($all.to_start[$key] | ms) | \($all.to_credit[$key] | ms) |"),
  "",
  "| per job, from its submission on | WAL, bytes | commits | rows written | dead rows | CPU, s per 1,000: all | PostgreSQL | coordinator |",
  "| --- | --- | --- | --- | --- | --- | --- | --- |",
  (names | to_entries[] | .key as $key | $all.per_job[$key] | select(.) | . as $cost
    | "| \($all | names[$key]) | \(.wal_bytes | short) | \(.commits | short) | \(.rows_written | short) | \(.dead_rows | short) | \([.postgres_cpu_ms, .coordinator_cpu_ms, .client_cpu_ms] | add | short) | \(.postgres_cpu_ms | short) | \(.coordinator_cpu_ms | short) |"),
  "",
  (.ratio_to_floor // empty | "the whole coordinator: \(short) of PostgreSQL claiming 1"),
  (.storage_to_same_rows // empty | "without HTTP: \(short) of pgbench writing the same rows, \($all.settled_at_once | short) jobs at once"),
  (.backlog_to_none // empty | "behind that backlog: \(short) of the rate without it"),
  (.priorities_to_one // empty | "with 10 priorities: \(short) of the rate with one"),
  (.sqlite_to_postgres // empty | "SQLite: \(short) of PostgreSQL"),
  (.waiting // empty | "at a waiting miner: submit to start \(.to_start | spoken)"),
  (.steady // empty | "\(.offered_per_sec) jobs per second, 70 % of what can be submitted and done: submit to start \(.to_start | spoken); to credit \(.to_credit | spoken)"),
  (.idle // empty | "\(.miners) idle miners: \(.core_percent | short) % of one core, \(.rss_mib | round) MiB"),
  (.heartbeats // empty | "\(.per_sec | round) heartbeats per second: \(.core_percent | short) % of one core"),
  (.held // empty | "a transaction held open for \(.secs) s: \(.during_to_before | short) of the rate before; 30 s after its end \(.after_to_before | short)"),
  (.crashes // empty | "one of two replicas killed: \(.replica_killed | back)",
    "PostgreSQL killed, and back after \(.postgres_died.postgres_back_ms) ms: \(.postgres_died | back)",
    "\(.jobs) jobs through both crashes, \(.credited) credited, each once; \(.failures) requests repeated; the books are clean"),
  "", "\(.jobs) jobs a round (\(.jobs_singly) where they are taken one at a time), median of \(.rounds) rounds, \(.cores) cores, load before \(.load_before), \(.postgres), profile \(.profile)"
