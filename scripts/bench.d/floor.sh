# shellcheck shell=bash
# What PostgreSQL bears without us, and what stands below our HTTP and above it. To be sourced, after
# dispatch.sh.

# burn CLIENTS TURNS SCRIPT URL: transactions per second.
burn() {
    local clients=$1 turns=$2 script=$3 url=$4 tps
    tps=$("$POSTGRES_BIN/pgbench" --no-vacuum --protocol prepared --client "$clients" \
        --jobs $((clients < 2 ? 1 : 2)) --transactions "$turns" --file "$script" "$url" \
        2>"$DIR/pgbench.log" | sed -n 's/^tps = \([0-9.]*\).*/\1/p')
    [[ -n $tps ]] || die "pgbench: $(tail -n 3 "$DIR/pgbench.log")"
    printf '%s\n' "$tps"
}

# turns JOBS BATCH CLIENTS: how many transactions each client does.
turns() { printf '%s\n' $(($1 / $2 / $3 < 1 ? 1 : $1 / $2 / $3)); }

# --- a bare queue -----------------------------------------------------------------------------

# floor BATCH ROUND: pgbench, claiming and completing BATCH rows at a time, at its best number of
# clients.
floor() {
    local batch=$1 name=floor_$1_$2 url clients jobs=$DISPATCH_JOBS
    ((batch > 1)) || jobs=$DISPATCH_JOBS_SINGLY
    cat >"$DIR/floor.sql" <<-SQL
		with claimed as (
		    update jobs set state = 1, held_until = now() + interval '30 s' where id in (
		        select id from jobs where state = 0 order by rank, id limit $batch for update skip locked)
		    returning id)
		select array_agg(id) as ids from claimed \\gset
		delete from jobs where id = any(cast(:ids as bigint[]));
	SQL
    for clients in $(choices "floor_$batch" "$DISPATCH_CLIENTS"); do
        url=$(new_database "$name")
        metered "$url" "$jobs" floor_with "$batch" "$clients" "$jobs" "$url"
        sql "drop database $name" >&2
    done | best "floor_$batch" clients
}

floor_with() {
    local batch=$1 clients=$2 jobs=$3 url=$4 tps
    sql "create table jobs (id bigint primary key, rank bigint not null, state smallint not null,
             held_until timestamptz, payload jsonb not null);
         create index on jobs (rank, id) where state = 0;
         insert into jobs select n, n, 0, null, '{\"text\": \"bench\"}'
             from generate_series(1, $((jobs + clients * batch))) n;
         analyze jobs;" "$url" >&2
    tps=$(burn "$clients" "$(turns "$jobs" "$batch" "$clients")" "$DIR/floor.sql" "$url")
    jq -n "{per_sec: ($tps * $batch), clients: $clients}"
}

# --- without HTTP -----------------------------------------------------------------------------

# layer storage|submitted|http|http-verify: see coordinator/benches/dispatch.rs.
layer() { "$LAYERS" "$1"; }

# storage ROUND: at the best number of miners.
storage() {
    local miners
    for miners in $(choices storage "$DISPATCH_MINERS"); do
        storage_with "storage_$1_$miners" "$miners"
    done | best storage miners
}

storage_with() {
    local name=$1 miners=$2 url
    url=$(new_database "$name")
    BENCH_DATABASE_URL=$url BENCH_JOBS=$DISPATCH_JOBS BENCH_MINERS=$miners \
        metered "$url" "$DISPATCH_JOBS" layer storage >"$DIR/layer.json"
    # All rows of a batch have its moment.
    jq -c --argjson at_once "$(sql 'select count(*)::float / count(distinct created_at) from receipts' "$url")" \
        '. + {settled_at_once: $at_once}' "$DIR/layer.json"
    sql "drop database $name" >&2
}

# --- the rows of a paid job -------------------------------------------------------------------

# What a coordinator tells PostgreSQL of how to plan: without it, pgbench would walk whole tables.
BY_INDEX='-c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off
    -c plan_cache_mode=force_generic_plan -c jit=off'

# same_rows ROUND: pgbench, writing into our schema what the storage layer writes for a paid job, in
# batches as large as those that the layer settled in this round. Our own layer submits the jobs, and
# settles one: its rows are the examples.
same_rows() {
    local round=$1 url clients batch submitted
    batch=$(tail -n 1 "$DIR/storage.jsonl" 2>/dev/null | jq '.settled_at_once | round')
    batch=${batch:-64}
    url=$(new_database "rows_$round")
    submitted=$(BENCH_DATABASE_URL=$url BENCH_JOBS=$DISPATCH_JOBS BENCH_MINERS=64 \
        metered "$url" "$DISPATCH_JOBS" layer submitted)
    sql "$(examples)" "$url" >&2
    paid_job "$batch" 64 >"$DIR/rows.sql"
    for clients in $(choices same_rows "$DISPATCH_CLIENTS"); do
        same_rows_with "rows_$round" "$batch" "$clients" "$submitted"
    done | best same_rows clients
    sql "drop database rows_$round" >&2
}

same_rows_with() {
    local template=$1 batch=$2 clients=$3 submitted=$4 url turns paid
    turns=$(turns "$DISPATCH_JOBS" "$batch" "$clients")
    paid=$((turns * batch * clients))
    ((paid <= DISPATCH_JOBS)) || die "same_rows: too few jobs for $clients clients of $batch"
    url=$(new_database "rows_of_$clients" "$template")
    metered "$url" "$paid" rate_of "$batch" "$clients" "$turns" "$url" |
        jq -c --argjson submitted "$submitted" '.per_job |= with_entries(.value += $submitted.per_job[.key])'
    [[ $(sql 'select count(*) from receipts' "$url") == "$((paid + 1))" ]] ||
        die "same_rows: not every job has a receipt"
    [[ $(sql "select count(*) from jobs where outcome = 'COMPLETED'" "$url") == "$((paid + 1))" ]] ||
        die "same_rows: not every job has ended"
    sql "drop database rows_of_$clients" >&2
}

rate_of() {
    local batch=$1 clients=$2 turns=$3 url=$4 tps
    tps=$(PGOPTIONS=$BY_INDEX burn "$clients" "$turns" "$DIR/rows.sql" "$url")
    jq -n "{per_sec: ($tps * $batch), clients: $clients, batch: $batch}"
}

# The rows of the one job that is settled: the values of all others, but for their keys.
examples() {
    cat <<-SQL
		create table example as
		    select r.wallet, r.client_id, r.output_sha, r.price, r.body, o.metrics, o.result,
		        (select data from job_events e where e.job_id = r.job_id and e.seq = 2) as assigned,
		        (select data from job_events e where e.job_id = r.job_id and e.seq = 3) as completed,
		        (select max(class_id) from classes) as class_id
		    from receipts r join job_results o on o.job_id = r.job_id;
		create table example_entries as select account_id, amount from entries order by account_id;
		analyze;
	SQL
}

# paid_job BATCH MINERS: a lease and a settlement of so many jobs, as a script of pgbench's. The
# accounts come last, since everybody waits for them.
paid_job() {
    local receipt="'rcpt-' || left(translate(cast(job_id as text), '-', ''), 26) || '-1'"
    local jobs="unnest(cast(:ids as uuid[])) as r(job_id)" ids="any(cast(:ids as uuid[]))"
    cat <<-SQL
		with free as (
		    select job_id, row_number() over () as n from (
		        select q.job_id from queue q
		        where q.class_id = (select class_id from example) and q.state = 'QUEUED'
		            and q.expires_at > now()
		        order by q.rank limit $1 for update skip locked) f),
		leased as (
		    update queue q set state = 'ASSIGNED', miner_no = 1 + free.n % $2, fence = q.fence + 1,
		        lease_token = gen_random_uuid(), tokenless = false, leased_at = now(),
		        lease_expires_at = now() + interval '10 s', deadline_at = now() + interval '1 h',
		        lease_no = nextval('lease_numbers'), event_seq = q.event_seq + 1, pct = null, note = null
		    from free where q.job_id = free.job_id
		    returning q.job_id, q.fence, q.miner_no, q.event_seq),
		attempt as (
		    insert into attempts (job_id, fence, miner_no, miner_id, leased_at)
		    select job_id, fence, miner_no, 'bench-' || miner_no - 1, now() from leased),
		event as (
		    insert into job_events (job_id, seq, at, kind, data)
		    select job_id, event_seq, now(), 'state', assigned from leased, example)
		select array_agg(job_id) as ids from leased \\gset
		begin;
		insert into transfers (transfer_id, kind, job_id, receipt_id, reference, created_at)
		    select job_id, 'credit', job_id, $receipt, null, now() from $jobs;
		insert into entries (transfer_id, account_id, amount)
		    select job_id, account_id, amount from $jobs, example_entries;
		insert into job_results (job_id, output_sha, exit_code, metrics, result)
		    select job_id, output_sha, 0, metrics, result from $jobs, example;
		insert into receipts (receipt_id, job_id, fence, miner_no, wallet, client_id, receipt_sha256,
		        output_sha, price, fee, bonus, measured, transfer_id, body, created_at)
		    select $receipt, job_id, fence, miner_no, wallet, client_id, sha256(uuid_send(job_id)),
		        output_sha, price, 0, 0, null, job_id, body, now()
		    from queue, example where job_id = $ids;
		delete from queue where job_id = $ids;
		update jobs set outcome = 'COMPLETED', finished_at = now(), attempt = 1, miner_id = 'bench-0',
		        started_at = now(), receipt_id = $receipt
		    where job_id = $ids and outcome is null;
		insert into promises (amount) values (-$1);
		update attempts set ended_at = now(), outcome = 'COMPLETED' where job_id = $ids and fence = 1;
		insert into job_events (job_id, seq, at, kind, data)
		    select job_id, 3, now(), 'state', completed from $jobs, example;
		update accounts a set balance = a.balance + e.amount * $1, updated_at = now()
		    from example_entries e where a.account_id = e.account_id;
		insert into miner_work (day, miner_no, completed, failed, busy_us)
		    select cast(floor(extract(epoch from now()) / 86400) as integer), array_agg(miner_no),
		        array_agg(n), array_agg(0), array_agg(1000)
		    from (select miner_no, count(*) as n from receipts where job_id = $ids group by miner_no) by_miner;
		commit;
	SQL
}
