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
# How many miners ask for them at once: the best of these numbers counts.
DISPATCH_MINERS=${DISPATCH_MINERS:-64 256}
# How many clients of pgbench are tried; the best of them counts.
DISPATCH_CLIENTS=${DISPATCH_CLIENTS:-1 4 16 32}
# How many jobs that nobody can run stand in front of them.
DISPATCH_BACKLOG=${DISPATCH_BACKLOG:-100000}
# How many idle miners are held, and for how many seconds.
DISPATCH_IDLE=${DISPATCH_IDLE:-10000}
DISPATCH_HOLD=${DISPATCH_HOLD:-60}
# How many heartbeats a second they give in another turn.
DISPATCH_BEATS=${DISPATCH_BEATS:-5000}
# For how many seconds a transaction is held open, while so many jobs are burnt down.
DISPATCH_HELD=${DISPATCH_HELD:-180}
DISPATCH_HELD_JOBS=${DISPATCH_HELD_JOBS:-500000}

CONTENDERS=(floor_1 floor_50 graphile_plain graphile_batched procrastinate pgmq_1 pgmq_50 storage http
    http_verify postgres sqlite backlog)
ALONE=(waiting idle heartbeats held)

# All runs that were recorded.
DISPATCH_HISTORY=docs/benchmarks/dispatch.json

DISPATCH_SETTINGS=("synchronous_commit = on" "max_wal_size = 4GB" "checkpoint_timeout = 15min"
    "random_page_cost = 1.1")

dispatch() {
    local round load
    need curl curl jq jq
    read -r load _ </proc/loadavg
    [[ $PROFILE == dev ]] || PROFILE=release
    build_programs "$PROFILE"
    LAYERS=$(cargo bench --quiet --locked --profile "${PROFILE/release/bench}" -p coordinator \
        --bench dispatch --no-run --message-format json |
        jq -r 'select(.target.kind == ["bench"]) | .executable')
    need '/usr/lib/postgresql/*/bin/pgbench' postgresql-contrib
    start_postgres "$DIR/postgres" on "${DISPATCH_SETTINGS[@]}"
    ulimit -n "$(ulimit -H -n)"
    ! is_wanted graphile_plain graphile_batched procrastinate pgmq_1 pgmq_50 || need_peers
    for ((round = 1; round <= ROUNDS; round++)); do
        say "round $round of $ROUNDS" >&2
        turn floor_1 floor 1 "$round"
        turn floor_50 floor 50 "$round"
        peers "$round"
        turn storage layer storage "storage_$round"
        turn http layer http
        turn http_verify layer http-verify
        turn postgres whole postgres "$round"
        turn sqlite whole sqlite "$round"
        turn backlog whole backlog "$round"
    done
    turn waiting waiting_node
    turn idle idle_fleet
    turn heartbeats beating_fleet
    turn held held_open
    dispatch_report "$load"
    dispatch_table
    ((RECORD == 0)) || record_run
}

# is_wanted NAME ...: whether one of them is.
is_wanted() {
    local name
    for name; do
        [[ -n $ONLY && ,$ONLY, != *,$name,* ]] || return 0
    done
    return 1
}

# turn NAME COMMAND ...: what it measures is kept, if it is wanted.
turn() {
    local name=$1
    shift
    is_wanted "$name" || return 0
    "$@" >"$DIR/turn.json"
    keep "$name" <"$DIR/turn.json"
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

# layer storage DATABASE | layer http|http-verify: see coordinator/benches/dispatch.rs.
layer() {
    local url=
    [[ -z ${2-} ]] || url=$(new_database "$2")
    BENCH_DATABASE_URL=$url "$LAYERS" "$1"
    [[ -z ${2-} ]] || sql "drop database $2" >&2
}

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

# whole postgres|sqlite|backlog ROUND: jobs from submission to credit over HTTP, with the number of
# miners that is best.
whole() {
    local miners
    for miners in $DISPATCH_MINERS; do
        whole_with "$1" "$2" "$miners" >"$DIR/whole_$miners.json"
    done
    jq -sc 'max_by(.per_sec)' "$DIR"/whole_*.json
}

whole_with() {
    local what=$1 name=$1_$2_$3 miners=$3 url=sqlite before
    [[ $what == sqlite ]] || url=$(new_database "$name")
    open_coordinator "$name" "$url" >&2
    if [[ $what == backlog ]]; then unrunnable "$DISPATCH_BACKLOG" >&2; fi
    before=$(counters "$url")
    fleet --miners "$miners" --jobs "$DISPATCH_JOBS" --batch 500 >"$DIR/one.json"
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

# Fewer miners than 20 seconds of so many heartbeats would take, and each gives more of them.
beating_fleet() {
    local url before beats begun secs=$((DISPATCH_IDLE / DISPATCH_BEATS))
    say "$DISPATCH_BEATS heartbeats per second" >&2
    url=$(new_database beating)
    open_coordinator beating "$url" >&2
    fleet --miners "$DISPATCH_IDLE" --jobs 0 --heartbeat $((secs < 1 ? 1 : secs)) \
        --hold $((DISPATCH_HOLD + 20)) >"$DIR/beating.json" &
    wait_until 600 "all miners to wait" all_wait "$DISPATCH_IDLE"
    sleep 10
    before=$(cpu_secs "$COORDINATOR_PID")
    beats=$(requests_of /v1/miner/heartbeat)
    begun=$SECONDS
    sleep $((DISPATCH_HOLD / 2))
    jq -nc --argjson secs $((SECONDS - begun)) --argjson cpu "$(cpu_secs "$COORDINATOR_PID")" \
        --argjson before "$before" --argjson beats "$beats" \
        --argjson now "$(requests_of /v1/miner/heartbeat)" \
        '{per_sec: (($now - $beats) / $secs), core_percent: (($cpu - $before) / $secs * 100)}'
    wait %% || true
    close_coordinator beating
}

# requests_of ROUTE: how many requests were answered with success until now.
requests_of() {
    curl --silent --fail "$COORDINATOR_URL/metrics" | awk -v route="route=\"$1\"" '
        /^aitbc_http_requests_total/ && index($0, route) && /status="20/ { all += $2 }
        END { printf "%d\n", all }'
}

# --- a transaction that does not end ------------------------------------------------------------

# A burn-down beside a transaction that sees the database as it was: what is dead since then cannot
# be cleared away.
held_open() {
    local url before during after
    say "a transaction that is held open for $DISPATCH_HELD s" >&2
    url=$(new_database held)
    open_coordinator held "$url" >&2
    fleet --miners "${DISPATCH_MINERS##* }" --jobs "$DISPATCH_HELD_JOBS" --batch 500 >"$DIR/held.json" &
    wait_until 600 "the first jobs to be credited" is_credited
    sleep 10
    before=$(credits_in 30)
    sql "begin isolation level repeatable read; select count(*) from clients;
         select pg_sleep($DISPATCH_HELD); commit" "$url" >/dev/null &
    sleep $((DISPATCH_HELD - 40))
    during=$(credits_in 40)
    sleep 30
    after=$(credits_in 20)
    jq -nc --argjson before "$before" --argjson during "$during" --argjson after "$after" \
        --argjson secs "$DISPATCH_HELD" '{secs: $secs, before_per_sec: $before, during_per_sec: $during,
            after_per_sec: $after, during_to_before: ($during / $before), after_to_before: ($after / $before)}'
    close_coordinator held
    wait || true
}

is_credited() { (($(requests_of /v1/miner/proof) > 0)); }

# credits_in SECONDS: how many jobs are credited per second.
credits_in() {
    local before
    before=$(requests_of /v1/miner/proof)
    sleep "$1"
    jq -n "($(requests_of /v1/miner/proof) - $before) / $1"
}

all_wait() { (($(as admin --json stats | jq .miners.online) >= $1)); }

# --- the table ----------------------------------------------------------------------------------

# dispatch_report LOAD: all that was measured, in one document.
dispatch_report() {
    local name load=$1 newest
    newest=$({ cat "$DISPATCH_HISTORY" 2>/dev/null || echo '[]'; } | jq -c '.[-1]')
    for name in "${CONTENDERS[@]}" "${ALONE[@]}"; do
        [[ ! -e $DIR/$name.jsonl ]] || jq -s "{$name: .}" "$DIR/$name.jsonl"
    done | jq -s --arg profile "$PROFILE" --arg cores "$(nproc)" --arg jobs "$DISPATCH_JOBS" \
        --arg miners "$DISPATCH_MINERS" --arg backlog "$DISPATCH_BACKLOG" --arg postgres "$("$POSTGRES_BIN/postgres" --version)" \
        --arg date "$(date --utc +%F)" --arg kernel "$(uname -r)" --arg load "$load" --arg only "$ONLY" \
        --argjson memory_kib "$(awk '/^MemTotal/ {print $2}' /proc/meminfo)" --argjson newest "$newest" '
        def median: sort | .[length / 2 | floor];
        def rates($name): .[$name] | map(.per_sec);
        def ratio($name; $to): . as $all | if $all[$name] and $all[$to] then
            [range($all[$name] | length) as $i | $all[$name][$i].per_sec / $all[$to][$i].per_sec] | median
            else null end;
        add | . as $all
        | {what: "paid jobs per second", $date, command: "scripts/bench dispatch\(if $only == "" then "" else " --only \($only)" end)",
           $profile, $kernel, memory_gib: ($memory_kib / 1048576 | round), load_before: ($load | tonumber), cores: ($cores | tonumber), $postgres,
           jobs: ($jobs | tonumber), backlog_jobs: ($backlog | tonumber), miners: $miners,
           rounds: (map(length) | max),
           per_sec: ([keys_unsorted[] | select(IN("waiting", "idle", "heartbeats", "held") | not) as $name
               | {($name): ($all | rates($name) | median)}] | add // {}),
           ratio_to_floor: ($all | ratio("postgres"; "floor_1")),
           sqlite_to_postgres: ($all | ratio("sqlite"; "postgres")),
           backlog_to_none: ($all | ratio("backlog"; "postgres")),
           per_job: ($all.postgres // [] | map(.per_job) | .[length / 2 | floor]),
           waiting: $all.waiting[0], idle: $all.idle[0], heartbeats: $all.heartbeats[0],
           held: $all.held[0], all: $all}
        | .against = (if $newest then {date: $newest.date, per_sec: (.per_sec | with_entries(
            select($newest.per_sec[.key]) | .value /= $newest.per_sec[.key]))} else null end)' >"$DIR/report.json"
    [[ -z $JSON ]] || cp "$DIR/report.json" "$JSON"
}

# record_run: without the figures of each round.
record_run() {
    { cat "$DISPATCH_HISTORY" 2>/dev/null || echo '[]'; } |
        jq --slurpfile run "$DIR/report.json" '. + [$run[0] | del(.all, .against)]' >"$DIR/history.json"
    cp "$DIR/history.json" "$DISPATCH_HISTORY"
}

dispatch_table() {
    jq -r 'def short: . * 100 | round / 100;
        def names: {floor_1: "PostgreSQL alone: claim 1, complete (pgbench, its best client count)",
            floor_50: "PostgreSQL alone: claim 50, complete 50",
            graphile_plain: "graphile-worker", graphile_batched: "graphile-worker, its batched preset",
            procrastinate: "procrastinate", pgmq_1: "pgmq: read 1, delete", pgmq_50: "pgmq: read 50, delete 50",
            http: "a bare handler over HTTP, requests per second",
            http_verify: "the same, verifying one signature each",
            storage: "the coordinator without HTTP: claim, verify, settle, with receipt and ledger",
            postgres: "the coordinator on PostgreSQL: HTTP, keys, lease, signed receipt, ledger",
            backlog: "the same behind \(.backlog_jobs) jobs that nobody can run",
            sqlite: "the coordinator on SQLite"};
        "| | jobs per second | to the first | to the run of \(.against.date // "-") |", "| --- | --- | --- | --- |",
        (.per_sec as $rates | .against.per_sec as $against | names | to_entries[] | select($rates[.key])
            | "| \(.value) | \($rates[.key] | round) | \(if $rates.floor_1 then $rates[.key] / $rates.floor_1 | short else "" end) | \($against[.key] // "" | if . == "" then . else short end) |"),
        "",
        (.backlog_to_none // empty | "behind that backlog: \(short) of the rate without it"),
        (.sqlite_to_postgres // empty | "SQLite: \(short) of PostgreSQL"),
        (.per_job // empty | "per job on PostgreSQL: " + (to_entries | map("\(.key) \(.value | short)") | join(", "))),
        (.waiting // empty | "submit to start at a waiting miner: p50 \(.to_start.p50_ms | short) ms, p99 \(.to_start.p99_ms | short) ms"),
        (.idle // empty | "\(.miners) idle miners: \(.core_percent | short) % of one core, \(.rss_mib | round) MiB"),
        (.heartbeats // empty | "\(.per_sec | round) heartbeats per second: \(.core_percent | short) % of one core"),
        (.held // empty | "a transaction held open for \(.secs) s: \(.during_to_before | short) of the rate before; 30 s after its end \(.after_to_before | short)"),
        "", "\(.jobs) jobs a round, \(.miners) miners, median of \(.rounds) rounds, \(.cores) cores, \(.postgres), profile \(.profile)"' \
        "$DIR/report.json"
}
