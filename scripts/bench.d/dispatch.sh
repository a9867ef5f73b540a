# shellcheck shell=bash
# scripts/bench dispatch: how many paid jobs per second go through the coordinator, beside what the
# same PostgreSQL bears when nothing but the queue is asked of it. To be sourced, after programs.sh
# and replicas.sh.
#
# One PostgreSQL with synchronous_commit on serves all contenders, in turns; each turn has a
# database of its own. Client, database and coordinator share the machine. What is tried with several
# numbers of clients or miners is so in the first round; later rounds take the number that was best.

# shellcheck source=scripts/bench.d/floor.sh
source scripts/bench.d/floor.sh
# shellcheck source=scripts/bench.d/peers.sh
source scripts/bench.d/peers.sh
# shellcheck source=scripts/bench.d/whole.sh
source scripts/bench.d/whole.sh
# shellcheck source=scripts/bench.d/scenarios.sh
source scripts/bench.d/scenarios.sh
# shellcheck source=scripts/bench.d/dispatch_report.sh
source scripts/bench.d/dispatch_report.sh

# How many jobs a round burns down, and how many where they are taken one at a time.
DISPATCH_JOBS=${DISPATCH_JOBS:-20000}
DISPATCH_JOBS_SINGLY=${DISPATCH_JOBS_SINGLY:-8000}
# How many miners ask for them at once.
DISPATCH_MINERS=${DISPATCH_MINERS:-64 256}
# How many clients of pgbench there are.
DISPATCH_CLIENTS=${DISPATCH_CLIENTS:-1 4 16 32}
# How many jobs that nobody can run stand in front of them.
DISPATCH_BACKLOG=${DISPATCH_BACKLOG:-100000}
# How many idle miners are held, and for how many seconds.
DISPATCH_IDLE=${DISPATCH_IDLE:-10000}
DISPATCH_HOLD=${DISPATCH_HOLD:-60}
# How many heartbeats a second they give in another turn.
DISPATCH_BEATS=${DISPATCH_BEATS:-5000}
# For how many seconds a transaction is held open; the rate is measured 20 s before, too, and from
# 30 s after its end on.
DISPATCH_HELD=${DISPATCH_HELD:-180}
# For how many seconds jobs come at 70 % of the rate at which they can be submitted and burnt down.
DISPATCH_STEADY=${DISPATCH_STEADY:-30}
# How many seconds lie between the crashes under load, and after them.
DISPATCH_CALM=${DISPATCH_CALM:-10}

PEER_NAMES=(graphile_plain graphile_batched graphile_rust_plain graphile_rust_batched procrastinate
    pgmq_1 pgmq_50)
# What is measured from within, by a program of its own.
LAYER_NAMES=(storage same_rows http http_verify)
CONTENDERS=(floor_1 floor_50 "${PEER_NAMES[@]}" "${LAYER_NAMES[@]}" postgres priorities backlog sqlite)
ALONE=(waiting steady idle heartbeats held crashes)

DISPATCH_SETTINGS=("synchronous_commit = on" "max_wal_size = 4GB" "checkpoint_timeout = 15min"
    "random_page_cost = 1.1")

dispatch() {
    local round load
    need curl curl jq jq
    read -r load _ </proc/loadavg
    [[ $PROFILE == dev ]] || PROFILE=release
    check_names
    build_programs "$PROFILE"
    ! is_wanted "${LAYER_NAMES[@]}" || LAYERS=$(PROFILE=${PROFILE/release/bench} bench_program coordinator dispatch)
    need '/usr/lib/postgresql/*/bin/pgbench' postgresql-contrib
    ! is_wanted crashes || need_replica_tools
    ! is_wanted "${PEER_NAMES[@]}" || need_peers
    start_postgres "$DIR/postgres" on "${DISPATCH_SETTINGS[@]}"
    ulimit -n "$(ulimit -H -n)"
    at_end unfinished "$load"
    at_end end_coordinator
    for ((round = 1; round <= ROUNDS; round++)); do
        say "round $round of $ROUNDS" >&2
        turn floor_1 floor 1 "$round"
        turn floor_50 floor 50 "$round"
        peers "$round"
        turn storage storage "$round"
        turn same_rows same_rows "$round"
        turn http layer http
        turn http_verify layer http-verify
        turn postgres whole postgres "$round"
        turn priorities whole priorities "$round"
        turn backlog whole backlog "$round"
        turn sqlite whole sqlite "$round"
    done
    turn waiting waiting_node
    turn steady steady
    turn idle idle_fleet
    turn heartbeats beating_fleet
    turn held held_open
    turn crashes crashes
    dispatch_report "$load"
    dispatch_table
    ((RECORD == 0)) || record_run
}

# A name that nothing has would measure nothing.
check_names() {
    local name
    for name in ${ONLY//,/ }; do
        [[ " ${CONTENDERS[*]} ${ALONE[*]} " == *" $name "* ]] ||
            die "--only: there is no $name; there are ${CONTENDERS[*]} ${ALONE[*]}"
    done
}

# is_wanted NAME ...: whether one of them is.
is_wanted() {
    local name
    for name; do
        [[ -n $ONLY && ,$ONLY, != *,$name,* ]] || return 0
    done
    return 1
}

# turn NAME COMMAND ...: what it measures, a line of JSON, is kept, if it is wanted.
turn() {
    local name=$1 begun=$SECONDS
    is_wanted "$name" || return 0
    shift
    "$@" >"$DIR/turn.json"
    cat "$DIR/turn.json" >>"$DIR/$name.jsonl"
    say "    $name: $((SECONDS - begun)) s" >&2
}

# --- numbers that are tried -------------------------------------------------------------------

# choices NAME NUMBERS: all of them in the first round, then the best.
choices() {
    if [[ -s $DIR/best.$1 ]]; then
        cat "$DIR/best.$1"
    else
        printf '%s\n' "$2"
    fi
}

# best NAME KEY: the best of the lines of JSON that come in; its KEY is remembered.
best() {
    jq -sc 'max_by(.per_sec)' >"$DIR/best.json"
    jq ".$2" "$DIR/best.json" >"$DIR/best.$1"
    cat "$DIR/best.json"
}

# lifecycles OTHERWISE: how many jobs per second the coordinator took in and burnt down, the time of
# their submission included: the median of the rounds until now.
lifecycles() {
    [[ -s $DIR/postgres.jsonl ]] || { say "$1" && return; }
    jq -s 'map(.credited / (.submitting_secs + .working_secs)) | sort | .[length / 2 | floor]' "$DIR/postgres.jsonl"
}

# --- what it costs ----------------------------------------------------------------------------

sql() { "$POSTGRES_BIN/psql" --quiet --no-align --tuples-only --dbname "${2:-$POSTGRES_URL}" --command "$1"; }

# new_database NAME [TEMPLATE]: prints its URL.
new_database() {
    sql "create database $1 ${2:+template $2}" >&2
    printf '%s\n' "${POSTGRES_URL%/*}/$1"
}

# metered URL JOBS COMMAND ...: the JSON that it prints, with what each job has taken, from its
# submission on: in the database, of the processors in PostgreSQL, in the coordinator that runs, and
# in COMMAND. That coordinator is ended: PostgreSQL counts late what a connection does that stays.
metered() {
    local url=$1 jobs=$2 before cpu TIMEFORMAT='%U %S'
    shift 2
    before=$(counters "$url")
    { time "$@" >"$DIR/metered.json" 2>&3; } 3>&2 2>"$DIR/metered.time" || return
    cpu=$(coordinator_cpu)
    end_coordinator
    jq -c --argjson before "$before" --argjson after "$(counters "$url")" --argjson jobs "$jobs" \
        --argjson cpu "$cpu" --argjson client "$(awk '{print ($1 + $2) * 1000}' "$DIR/metered.time")" '
        . + {per_job: ($after + $cpu + {client_cpu_ms: $client}
            | with_entries(.value = (.value - ($before[.key] // 0)) / $jobs))}' "$DIR/metered.json"
}

# coordinator_cpu: of the one that runs, until now.
coordinator_cpu() {
    if [[ -n $COORDINATOR_PID ]]; then
        jq -nc "{coordinator_cpu_ms: ($(cpu_secs "$COORDINATOR_PID") * 1000)}"
    else
        printf '{}\n'
    fi
}

# counters URL|sqlite: what a database, its server and the coordinator have used until now.
counters() {
    if [[ $1 == sqlite ]]; then
        coordinator_cpu
        return
    fi
    sql "select json_build_object(
            'wal_bytes', (select wal_bytes from pg_stat_wal),
            'commits', (select xact_commit from pg_stat_database where datname = current_database()),
            'rows_written', (select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) from pg_stat_user_tables),
            'dead_rows', (select coalesce(sum(n_dead_tup), 0) from pg_stat_user_tables))" "$1" |
        jq -c --argjson cpu "$(coordinator_cpu)" --argjson postgres "$(postgres_cpu_secs)" \
            '. + $cpu + {postgres_cpu_ms: ($postgres * 1000)}'
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
