# shellcheck shell=bash
# What is measured once: a node that waits, a steady load, idle miners and their heartbeats, a
# transaction that does not end, crashes. To be sourced, after whole.sh.

waiting_node() {
    local url
    url=$(new_database waiting)
    open_coordinator waiting "$url" >&2
    fleet --miners 4 --jobs 500 --rate 20 --batch 1
    close_coordinator waiting
}

# Jobs come evenly, at 70 % of the rate at which they can come, whether or not those before are done.
steady() {
    local url rate miners
    rate=$(jq -n "$(lifecycles 500) * 0.7 | floor")
    miners=$(choices postgres "${DISPATCH_MINERS##* }")
    url=$(new_database steady)
    open_coordinator steady "$url" >&2
    metered "$url" $((rate * DISPATCH_STEADY)) fleet --miners "$miners" \
        --jobs $((rate * DISPATCH_STEADY)) --rate "$rate" >"$DIR/steady.json"
    jq -c --argjson offered "$rate" '. + {offered_per_sec: $offered}' "$DIR/steady.json"
    audit "$DIR/steady" >&2
    close_coordinator steady
}

# --- many that wait -----------------------------------------------------------------------------

idle_fleet() {
    local url before begun fleet
    url=$(new_database idle)
    open_coordinator idle "$url" >&2
    fleet --miners "$DISPATCH_IDLE" --jobs 0 --hold $((DISPATCH_HOLD + 120)) >"$DIR/idle.json" &
    fleet=$!
    # Once all are registered: the beginning of the wait is not its cost.
    wait_until 600 "all miners to wait" all_wait "$fleet" "$DISPATCH_IDLE"
    sleep 20
    before=$(cpu_secs "$COORDINATOR_PID")
    begun=$SECONDS
    sleep "$DISPATCH_HOLD"
    jq -nc --argjson miners "$DISPATCH_IDLE" --argjson secs $((SECONDS - begun)) \
        --argjson cpu "$(cpu_secs "$COORDINATOR_PID")" --argjson before "$before" \
        --argjson kib "$(awk '/^VmRSS/ {print $2}' "/proc/$COORDINATOR_PID/status")" \
        '{miners: $miners, core_percent: (($cpu - $before) / $secs * 100), rss_mib: ($kib / 1024)}'
    end_fleet "$fleet"
    close_coordinator idle
}

# Fewer miners than give so many heartbeats at the coordinator's pace, and each gives one a second: a
# process has only so many connections.
beating_fleet() {
    local url before beats begun fleet
    url=$(new_database beating)
    open_coordinator beating "$url" >&2
    fleet --miners "$DISPATCH_BEATS" --jobs 0 --heartbeat 1 --hold $((DISPATCH_HOLD + 120)) >"$DIR/beating.json" &
    fleet=$!
    wait_until 600 "all miners to wait" all_wait "$fleet" "$DISPATCH_BEATS"
    sleep 10
    before=$(cpu_secs "$COORDINATOR_PID")
    beats=$(requests_of /v1/miner/heartbeat)
    begun=$SECONDS
    sleep $((DISPATCH_HOLD / 2))
    jq -nc --argjson secs $((SECONDS - begun)) --argjson cpu "$(cpu_secs "$COORDINATOR_PID")" \
        --argjson before "$before" --argjson beats "$beats" \
        --argjson now "$(requests_of /v1/miner/heartbeat)" \
        '{per_sec: (($now - $beats) / $secs), core_percent: (($cpu - $before) / $secs * 100)}'
    end_fleet "$fleet"
    close_coordinator beating
}

# end_fleet PID: what it would still do is of no use.
end_fleet() {
    pkill -INT -P "$1" 2>/dev/null || true
    wait "$1" || true
}

# --- a transaction that does not end ------------------------------------------------------------

# More jobs come than can be done, beside a transaction that sees the database as it was: what is
# dead since then cannot be cleared away.
held_open() {
    local url before during after offered fleet
    offered=$(jq -n "$(lifecycles 4000) * 1.5 | floor")
    url=$(new_database held)
    open_coordinator held "$url" >&2
    fleet --miners "$(choices postgres "${DISPATCH_MINERS##* }")" --batch 500 --rate "$offered" \
        --jobs $((offered * (DISPATCH_HELD + 300))) >"$DIR/held.json" &
    fleet=$!
    wait_until 600 "the first jobs to be credited" is_credited
    sleep 10
    before=$(credits_in 20)
    sql "begin isolation level repeatable read; select count(*) from clients;
         select pg_sleep($DISPATCH_HELD); commit" "$url" >/dev/null &
    sleep $((DISPATCH_HELD * 2 / 3))
    during=$(credits_in $((DISPATCH_HELD / 3)))
    wait $!
    sleep 30
    after=$(credits_in 20)
    jq -nc --argjson before "$before" --argjson during "$during" --argjson after "$after" \
        --argjson secs "$DISPATCH_HELD" '{secs: $secs, before_per_sec: $before, during_per_sec: $during,
            after_per_sec: $after, during_to_before: ($during / $before), after_to_before: ($after / $before)}'
    end_fleet "$fleet"
    close_coordinator held
}

# --- crashes under load -------------------------------------------------------------------------

# Jobs are burnt down through two replicas behind one address. One of them is killed, and comes back;
# then PostgreSQL dies, and comes back. In the end every job has one receipt and one credit.
crashes() {
    local dir=$DIR/crashes url jobs killed died back fleet n
    jobs=$(jq -n "$(lifecycles 2000) * $DISPATCH_CALM * 4 | floor")
    url=$(new_database crashes)
    KEYS=$DIR/crashes.keys
    mkdir -p "$dir" "$KEYS"
    at_end stop_replicas
    for n in 1 2; do
        set_up_replica "$dir" "$n" "$url" "$NO_LIMITS" >&2
        start_replica "$dir" "$n" >&2
    done
    make_key "$dir/replica-1" admin --scope admin
    start_balancer "$dir" >&2
    at_end stop_process "$BALANCER_PID"
    # What is replayed is of this turn.
    sql checkpoint
    fleet --miners "$(choices postgres "${DISPATCH_MINERS##* }")" --batch 500 --jobs "$jobs" \
        --patience 120 >"$DIR/fleet.json" &
    fleet=$!
    wait_until 600 "the first jobs to be credited" is_credited "${REPLICA_URLS[2]}"
    sleep "$DISPATCH_CALM"
    killed=$(now_ms)
    kill_replica 1
    sleep "$DISPATCH_CALM"
    start_replica "$dir" 1 >&2
    sleep "$((DISPATCH_CALM / 2))"
    kill -0 "$fleet" 2>/dev/null || die "crashes: too few jobs, all were done before PostgreSQL died"
    died=$(now_ms)
    crash_postgres
    back=$(now_ms)
    wait "$fleet" || die "crashes: not every job was credited"
    check_crashes "$dir" "$url" "$jobs"
    jq -c --argjson killed "$killed" --argjson died "$died" --argjson back "$back" \
        -f scripts/bench.d/crashes.jq "$DIR/fleet.json"
    stop_replicas
    unset 'REPLICA_PIDS[1]' 'REPLICA_PIDS[2]'
    stop_process "$BALANCER_PID"
    sql "drop database crashes" >&2
}

# check_crashes DIR URL JOBS
check_crashes() {
    local dir=$1 url=$2 jobs=$3 seen
    coordinator "$dir/replica-1" ledger audit --json >"$DIR/audit.json" ||
        die "the books do not balance: $(head -c 500 "$DIR/audit.json")"
    seen=$(jq -c '[.receipts, .transfers, (.faults | length)]' "$DIR/audit.json")
    [[ $seen == "[$jobs,$jobs,0]" ]] || die "crashes: $jobs jobs, but receipts, transfers, faults: $seen"
    seen=$(sql "select count(*) || ' ' || count(distinct job_id) from transfers where kind = 'credit'" "$url")
    [[ $seen == "$jobs $jobs" ]] || die "crashes: $jobs jobs, but credits, jobs with one: $seen"
    seen=$(sql "select count(*) from jobs where outcome = 'COMPLETED'" "$url")
    [[ $seen == "$jobs" ]] || die "crashes: $jobs jobs, but completed: $seen"
}

now_ms() { date +%s%3N; }
