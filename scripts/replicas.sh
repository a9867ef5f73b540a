# shellcheck shell=bash
# Several coordinators on one database behind one address, as in production, and clients that keep
# them busy. To be sourced, after programs.sh.
#
# All replicas share one data directory: the key that attests receipts, and the files of jobs.

# By number, from 1.
REPLICA_URLS=()
REPLICA_PIDS=()

# Where each listens, by number; absent: on the loopback interface.
REPLICA_HOSTS=()

need_replica_tools() { need haproxy haproxy python3 python3; }

# --- replicas ---------------------------------------------------------------------------------

# set_up_replica DIR N URL [SETTING: VALUE ...]: replica N in DIR/replica-N.
set_up_replica() {
    local dir=$1 n=$2 url=$3 listen=()
    shift 3
    if [[ -n ${REPLICA_HOSTS[n]-} ]]; then
        listen=("listen: {host: ${REPLICA_HOSTS[n]}, behind_proxy: true}")
    fi
    DATA_DIR=$dir/data set_up_coordinator "$dir/replica-$n" "$url" "${listen[@]}" "$@"
}

# start_replica DIR N: in the background, on its former port if it had one.
start_replica() {
    # What start_coordinator sets is another matter here: COORDINATOR_URL is the balancer's.
    local dir=$1 n=$2 port=${REPLICA_URLS[$2]-} COORDINATOR_URL COORDINATOR_PID
    port=${port##*:}
    start_coordinator "$dir/replica-$n" "${port:-0}"
    REPLICA_URLS[n]=$COORDINATOR_URL
    REPLICA_PIDS[n]=$COORDINATOR_PID
}

kill_replica() {
    kill -KILL "${REPLICA_PIDS[$1]}"
    wait "${REPLICA_PIDS[$1]}" 2>/dev/null || true
}

# Processes change, so their ids are looked up at the end.
stop_replicas() {
    local pid
    for pid in "${REPLICA_PIDS[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${REPLICA_PIDS[@]}"; do stop_process "$pid"; done
}

# is_ready N
is_ready() { curl -fs -m 5 -o /dev/null "${REPLICA_URLS[$1]}/readyz"; }

# --- the address in front of them -------------------------------------------------------------

# start_balancer DIR [HOST]: sends each request to one of the replicas that say that they are ready,
# and writes down to which. Sets COORDINATOR_URL and BALANCER_PID.
start_balancer() {
    local dir=$1 host=${2:-127.0.0.1} port n try
    for try in 1 2 3 4 5; do
        port=$(free_port)
        balancer_settings "$host:$port" >"$dir/haproxy.cfg"
        (exec "${INSIDE[@]}" haproxy -db -f "$dir/haproxy.cfg" >"$dir/balancer.log" 2>&1) &
        export BALANCER_PID=$!
        COORDINATOR_URL=http://$host:$port
        if wait_until 20 "the balancer" balancer_serves; then return; fi
        ((try < 5)) || die "the balancer does not start, see $dir/balancer.log"
    done
}

balancer_serves() {
    has_ended "$BALANCER_PID" || curl -fs -m 5 -o /dev/null "$COORDINATOR_URL/readyz"
}

# A replica that cannot reach its database says so in /readyz, and gets no more requests. What it
# was sent already is not sent to another one: whoever asked knows whether it may be repeated.
balancer_settings() {
    cat <<-CONFIG
		global
		    log stdout format raw local0
		defaults
		    mode http
		    log global
		    log-format "%s %ST %HM %HPO"
		    option redispatch
		    timeout connect 2s
		    timeout check 4s
		    timeout client 90s
		    timeout server 90s
		frontend address
		    bind $1
		    default_backend replicas
		backend replicas
		    balance roundrobin
		    option httpchk GET /readyz
		    default-server check inter 1s fall 2 rise 1
	CONFIG
    local n
    for n in "${!REPLICA_URLS[@]}"; do
        printf '    server replica-%s %s\n' "$n" "${REPLICA_URLS[n]#http://}"
    done
}

# handled DIR N METHOD PATH: how many such requests replica N has answered with success.
handled() {
    grep -cE "^replica-$2 2[0-9][0-9] $3 $4\$" "$1/balancer.log" || true
}

# check_shares DIR: every replica took in jobs and settled some.
check_shares() {
    local dir=$1 n took settled
    for n in "${!REPLICA_URLS[@]}"; do
        took=$(handled "$dir" "$n" POST /v1/jobs)
        settled=$(handled "$dir" "$n" POST /v1/miner/proof)
        expect "replica $n took in $took jobs and settled $settled" \
            test "$took" -gt 0 -a "$settled" -gt 0 || true
    done
}

# --- clients ----------------------------------------------------------------------------------

# start_load DIR JOBS SECONDS [OPTION ...]: clients submit jobs through COORDINATOR_URL, and come
# back with the same Idempotency-Key until each is accepted. Sets LOAD_PID.
start_load() {
    local dir=$1 jobs=$2 seconds=$3
    shift 3
    python3 scripts/faults.d/load.py --url "$COORDINATOR_URL" --header "$KEYS/client.header" \
        --jobs "$jobs" --seconds "$seconds" --out "$dir/load.jsonl" "$@" &
    export LOAD_PID=$!
}

# check_load DIR JOBS: every submission was accepted in the end, and only refused in words that a
# client can act on. Sets RETRIES, REFUSALS and LONGEST_WAIT.
check_load() {
    local dir=$1 jobs=$2
    wait "$LOAD_PID" || true
    same "submissions that were accepted" \
        "$(jq -r '.job_id // empty' "$dir/load.jsonl" | sort -u | wc -l)" "$jobs"
    RETRIES=$(jq -s 'map(.tries - 1) | add' "$dir/load.jsonl")
    LONGEST_WAIT=$(jq -s 'map(.took_secs) | max | ceil' "$dir/load.jsonl")
    REFUSALS=$(jq -rs '[.[].refusals | to_entries[]] | group_by(.key)
        | map("\(.[0].key) x\(map(.value) | add)") | join(", ")' "$dir/load.jsonl")
    say "      clients tried $RETRIES times again, the longest for $LONGEST_WAIT s;" \
        "they were told: ${REFUSALS:-nothing}"
    same "refusals without a reason" "$(grep -c 'INTERNAL\|unexplained' "$dir/load.jsonl")" 0
}
