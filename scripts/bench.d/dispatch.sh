# shellcheck shell=bash
# scripts/bench dispatch: how many paid jobs per second go through the coordinator, beside what the
# same PostgreSQL bears when nothing but the queue is asked of it. To be sourced, after programs.sh.
#
# One PostgreSQL with synchronous_commit on serves all contenders, in turns; each round has a
# database of its own. Client, database and coordinator share the machine. Other queues run in the
# same turns (peers.sh).

# shellcheck source=scripts/bench.d/peers.sh
source scripts/bench.d/peers.sh

# How many jobs a round burns down.
DISPATCH_JOBS=${DISPATCH_JOBS:-20000}
# How many miners ask for them at once.
DISPATCH_MINERS=${DISPATCH_MINERS:-64}
# How many clients of pgbench are tried; the best of them counts.
DISPATCH_CLIENTS=${DISPATCH_CLIENTS:-1 4 16 32}
# How many jobs that nobody can run stand in front of them.
DISPATCH_BACKLOG=${DISPATCH_BACKLOG:-100000}
# How many idle miners are held, and for how many seconds.
DISPATCH_IDLE=${DISPATCH_IDLE:-10000}
DISPATCH_HOLD=${DISPATCH_HOLD:-60}

CONTENDERS=(floor_1 floor_50 graphile_plain graphile_batched procrastinate pgmq_1 pgmq_50 storage http
    http_verify postgres sqlite backlog)

DISPATCH_SETTINGS=("synchronous_commit = on" "max_wal_size = 4GB" "checkpoint_timeout = 15min"
    "random_page_cost = 1.1")

dispatch() {
    local round
    need curl curl jq jq
    [[ $PROFILE == dev ]] || PROFILE=release
    build_programs "$PROFILE"
    LAYERS=$(cargo bench --quiet --locked --profile "${PROFILE/release/bench}" -p coordinator \
        --bench dispatch --no-run --message-format json |
        jq -r 'select(.target.kind == ["bench"]) | .executable')
    need '/usr/lib/postgresql/*/bin/pgbench' postgresql-contrib
    start_postgres "$DIR/postgres" on "${DISPATCH_SETTINGS[@]}"
    ulimit -n "$(ulimit -H -n)"
    need_peers
    for ((round = 1; round <= ROUNDS; round++)); do
        say "round $round of $ROUNDS" >&2
        floor 1 "$round" | keep floor_1
        floor 50 "$round" | keep floor_50
        peers "$round"
        layer storage "$(new_database "storage_$round")" | keep storage
        layer http | keep http
        layer http-verify | keep http_verify
        whole postgres "$round" | keep postgres
        whole sqlite "$round" | keep sqlite
        whole backlog "$round" | keep backlog
    done
    waiting_node | keep waiting
    idle_fleet | keep idle
    dispatch_table
}

# keep NAME: what is measured, a line of JSON each.
keep() { cat >>"$DIR/$1.jsonl"; }

sql() { "$POSTGRES_BIN/psql" --quiet --no-align --tuples-only --dbname "${2:-$POSTGRES_URL}" --command "$1"; }

# new_database NAME: prints its URL.
new_database() {
    sql "create database $1" >&2
    printf '%s\n' "${POSTGRES_URL%/*}/$1"
}

# --- the floor --------------------------------------------------------------------------------

# floor BATCH ROUND: the best of pgbench, claiming and completing BATCH rows at a time.
floor() {
    local batch=$1 round=$2 url clients best=0 rate
    url=$(new_database "floor_${batch}_$round")
    cat >"$DIR/floor.sql" <<-SQL
		with claimed as (
		    update jobs set state = 1, held_until = now() + interval '30 s' where id in (
		        select id from jobs where state = 0 order by rank, id limit $batch for update skip locked)
		    returning id)
		select array_agg(id) as ids from claimed \\gset
		delete from jobs where id = any(cast(:ids as bigint[]));
	SQL
    for clients in $DISPATCH_CLIENTS; do
        rate=$(floor_with "$batch" "$clients" "$url")
        best=$(jq -n "[$best, $rate] | max")
    done
    jq -nc "{per_sec: $best}"
    sql "drop database floor_${batch}_$round" >&2
}

floor_with() {
    local batch=$1 clients=$2 url=$3 turns tps
    turns=$((DISPATCH_JOBS / batch / clients))
    sql "set client_min_messages = warning; drop table if exists jobs;
         create table jobs (id bigint primary key, rank bigint not null, state smallint not null,
             held_until timestamptz, payload jsonb not null);
         create index on jobs (rank, id) where state = 0;
         insert into jobs select n, n, 0, null, '{\"text\": \"bench\"}'
             from generate_series(1, $((DISPATCH_JOBS + clients * batch))) n;
         analyze jobs;" "$url" >&2
    tps=$("$POSTGRES_BIN/pgbench" --no-vacuum --protocol prepared --client "$clients" \
        --jobs $((clients < 2 ? 1 : 2)) --transactions "$turns" --file "$DIR/floor.sql" "$url" \
        2>"$DIR/pgbench.log" | sed -n 's/^tps = \([0-9.]*\).*/\1/p')
    [[ -n $tps ]] || die "pgbench: $(tail -n 3 "$DIR/pgbench.log")"
    jq -n "$tps * $batch"
}

# --- what is below and above our HTTP -----------------------------------------------------------

# layer storage URL | layer http|http-verify: see coordinator/benches/dispatch.rs.
layer() { BENCH_DATABASE_URL=${2-} "$LAYERS" "$1"; }

# --- us ---------------------------------------------------------------------------------------

# open_coordinator NAME URL|sqlite: with limits that are not what is measured, and an admin's key.
open_coordinator() {
    KEYS=$DIR/$1.keys
    mkdir -p "$KEYS"
    set_up_coordinator "$DIR/$1" "$2" \
        'limits: {client_per_minute: 100000000, miner_per_minute: 100000000, admin_per_minute: 100000000}'
    start_coordinator "$DIR/$1"
    make_key "$DIR/$1" admin --scope admin
}

close_coordinator() {
    stop_process "$COORDINATOR_PID"
    rm -rf "${DIR:?}/$1"
}

# fleet OPTION ...: what aitbc measured, as JSON.
fleet() {
    AITBC_URL=$COORDINATOR_URL AITBC_KEY_FILE=$KEYS/admin.key timeout 900 "$BIN/aitbc" --json --quiet \
        fleet --this-is-a-trial "$@"
}

# whole postgres|sqlite|backlog ROUND: jobs from submission to credit over HTTP.
whole() {
    local what=$1 name=$1_$2 url=sqlite before
    [[ $what == sqlite ]] || url=$(new_database "$name")
    open_coordinator "$name" "$url" >&2
    if [[ $what == backlog ]]; then unrunnable "$DISPATCH_BACKLOG" >&2; fi
    before=$(counters "$url")
    fleet --miners "$DISPATCH_MINERS" --jobs "$DISPATCH_JOBS" --batch 500 >"$DIR/one.json"
    jq -c --argjson before "$before" --argjson after "$(counters "$url")" \
        '.credited as $jobs | .per_job = ($after | with_entries(.value = (.value - $before[.key]) / $jobs))' \
        "$DIR/one.json"
    audit "$DIR/$name" >&2
    close_coordinator "$name"
    [[ $what == sqlite ]] || sql "drop database $name" >&2
}

# audit DIR: the books of a coordinator, or the end.
audit() { coordinator "$1" ledger audit >/dev/null 2>&1 || die "the books of $1 do not balance"; }

# unrunnable COUNT: jobs that no miner of the fleet can take, in front of all others.
unrunnable() {
    local body
    body=$(jq -nc '{jobs: [range(1000) | {workload: "hash", input: {inline: {text: "x"}}, priority: 9,
        constraints: {gpu: true, min_vram_gb: 64}, ttl_seconds: 86400}]}')
    make_key "$DIR/$name" crowd --scope client --client crowd
    local i
    for ((i = 0; i < $1 / 1000; i++)); do
        post crowd /v1/jobs/batch "$body" >/dev/null
    done
}

# counters URL: what a database and a coordinator have used until now.
counters() {
    local cpu
    cpu=$(cpu_secs "$COORDINATOR_PID")
    if [[ $1 == sqlite ]]; then
        jq -nc "{coordinator_cpu_ms: ($cpu * 1000)}"
        return
    fi
    sql "select json_build_object(
            'wal_bytes', (select wal_bytes from pg_stat_wal),
            'commits', (select xact_commit from pg_stat_database where datname = current_database()),
            'dead_tuples', (select coalesce(sum(n_dead_tup), 0) from pg_stat_user_tables))" "$1" |
        jq -c --argjson cpu "$cpu" --argjson postgres "$(postgres_cpu_secs)" \
            '. + {coordinator_cpu_ms: ($cpu * 1000), postgres_cpu_ms: ($postgres * 1000)}'
}

# cpu_secs PID: processor time of a process until now.
cpu_secs() { awk -v hz="$(getconf CLK_TCK)" '{sub(/^.*\) /, ""); print ($12 + $13) / hz}' "/proc/$1/stat"; }

# Of the server and of every process that it started, those that have ended included.
postgres_cpu_secs() {
    local pid stats=()
    for pid in $(postgres_pid) $(pgrep -P "$(postgres_pid)"); do
        [[ ! -e /proc/$pid/stat ]] || stats+=("/proc/$pid/stat")
    done
    cat "${stats[@]}" 2>/dev/null | awk -v hz="$(getconf CLK_TCK)" \
        '{sub(/^.*\) /, ""); all += $12 + $13 + (NR == 1 ? $14 + $15 : 0)} END {print all / hz}'
}

# --- a node that waits, and many ---------------------------------------------------------------

waiting_node() {
    local url
    say "a waiting node" >&2
    url=$(new_database waiting)
    open_coordinator waiting "$url" >&2
    fleet --miners 4 --jobs 500 --rate 20 --batch 1
    close_coordinator waiting
}

idle_fleet() {
    local url before begun
    say "$DISPATCH_IDLE idle miners" >&2
    url=$(new_database idle)
    open_coordinator idle "$url" >&2
    fleet --miners "$DISPATCH_IDLE" --jobs 0 --hold $((DISPATCH_HOLD + 40)) >"$DIR/idle.json" &
    # Once all are registered: the beginning of the wait is not its cost.
    wait_until 600 "all miners to wait" all_wait "$DISPATCH_IDLE"
    sleep 20
    before=$(cpu_secs "$COORDINATOR_PID")
    begun=$SECONDS
    sleep "$DISPATCH_HOLD"
    jq -nc --argjson miners "$DISPATCH_IDLE" --argjson secs $((SECONDS - begun)) \
        --argjson cpu "$(cpu_secs "$COORDINATOR_PID")" --argjson before "$before" \
        --argjson kib "$(awk '/^VmRSS/ {print $2}' "/proc/$COORDINATOR_PID/status")" \
        '{miners: $miners, core_percent: (($cpu - $before) / $secs * 100), rss_mib: ($kib / 1024)}'
    wait %% || true
    close_coordinator idle
}

all_wait() { (($(as admin --json stats | jq .miners.online) >= $1)); }

# --- the table ----------------------------------------------------------------------------------

dispatch_table() {
    local name
    for name in "${CONTENDERS[@]}" waiting idle; do
        [[ ! -e $DIR/$name.jsonl ]] || jq -s "{$name: .}" "$DIR/$name.jsonl"
    done | jq -s --arg profile "$PROFILE" --arg cores "$(nproc)" --arg jobs "$DISPATCH_JOBS" \
        --arg miners "$DISPATCH_MINERS" --arg backlog "$DISPATCH_BACKLOG" --arg postgres "$("$POSTGRES_BIN/postgres" --version)" '
        def median: sort | .[length / 2 | floor];
        def rates($name): .[$name] | map(.per_sec);
        def ratio($name; $to): . as $all | [range($all[$name] | length) as $i
            | $all[$name][$i].per_sec / $all[$to][$i].per_sec] | median;
        add | . as $all
        | {what: "paid jobs per second", $profile, cores: ($cores | tonumber), $postgres,
           jobs: ($jobs | tonumber), backlog_jobs: ($backlog | tonumber), miners: ($miners | tonumber), rounds: (.floor_1 | length),
           per_sec: ([keys_unsorted[] | select(. != "waiting" and . != "idle") as $name
               | {($name): ($all | rates($name) | median)}] | add),
           ratio_to_floor: ($all | ratio("postgres"; "floor_1")),
           sqlite_to_postgres: ($all | ratio("sqlite"; "postgres")),
           backlog_to_none: ($all | ratio("backlog"; "postgres")),
           per_job: ($all.postgres | map(.per_job) | .[length / 2 | floor]),
           waiting: $all.waiting[0], idle: $all.idle[0], all: $all}' >"$DIR/report.json"
    jq -r 'def short: . * 100 | round / 100;
        def names: {graphile_plain: "graphile-worker", graphile_batched: "graphile-worker, its batched preset",
            procrastinate: "procrastinate", pgmq_1: "pgmq: read 1, delete", pgmq_50: "pgmq: read 50, delete 50"};
        "| | jobs per second | |", "| --- | --- | --- |",
        "| PostgreSQL alone: claim 1, complete (pgbench, its best client count) | \(.per_sec.floor_1 | round) | 1 |",
        "| PostgreSQL alone: claim 50, complete 50 | \(.per_sec.floor_50 | round) | \(.per_sec.floor_50 / .per_sec.floor_1 | short) |",
        (.per_sec as $rates | names | to_entries[] | select($rates[.key])
            | "| \(.value) | \($rates[.key] | round) | \($rates[.key] / $rates.floor_1 | short) |"),
        "| a bare handler over HTTP, requests per second | \(.per_sec.http | round) | |",
        "| the same, verifying one signature each | \(.per_sec.http_verify | round) | |",
        "| the coordinator without HTTP: claim, verify, settle, with receipt and ledger | \(.per_sec.storage | round) | \(.per_sec.storage / .per_sec.floor_1 | short) |",
        "| the coordinator on PostgreSQL: HTTP, keys, lease, signed receipt, ledger | \(.per_sec.postgres | round) | \(.ratio_to_floor | short) |",
        "| the same behind \(.backlog_jobs) jobs that nobody can run | \(.per_sec.backlog | round) | \(.backlog_to_none | short) of the line above |",
        "| the coordinator on SQLite | \(.per_sec.sqlite | round) | \(.sqlite_to_postgres | short) of PostgreSQL |",
        "",
        "per job on PostgreSQL: " + (.per_job | to_entries | map("\(.key) \(.value | short)") | join(", ")),
        "submit to start at a waiting miner: p50 \(.waiting.to_start.p50_ms | short) ms, p99 \(.waiting.to_start.p99_ms | short) ms",
        "\(.idle.miners) idle miners: \(.idle.core_percent | short) % of one core, \(.idle.rss_mib | round) MiB",
        "", "\(.jobs) jobs a round, \(.miners) miners, median of \(.rounds) rounds, \(.cores) cores, \(.postgres), profile \(.profile)"' \
        "$DIR/report.json"
    [[ -z $JSON ]] || cp "$DIR/report.json" "$JSON"
}
