# shellcheck shell=bash
# The whole coordinator over HTTP, under a simulated fleet. To be sourced, after dispatch.sh.

# Limits are not what is measured.
NO_LIMITS='limits: {client_per_minute: 100000000, miner_per_minute: 100000000, admin_per_minute: 100000000,
    miners_per_wallet: 1000000}'

# open_coordinator NAME URL|sqlite: with an admin's key.
open_coordinator() {
    KEYS=$DIR/$1.keys
    mkdir -p "$KEYS"
    set_up_coordinator "$DIR/$1" "$2" "$NO_LIMITS"
    start_coordinator "$DIR/$1"
    make_key "$DIR/$1" admin --scope admin
}

close_coordinator() {
    end_coordinator
    rm -rf "${DIR:?}/$1"
}

# end_coordinator: the one that runs, if one does.
end_coordinator() {
    [[ -z $COORDINATOR_PID ]] || stop_process "$COORDINATOR_PID"
    COORDINATOR_PID=
}

# fleet OPTION ...: what aitbc measured, as JSON.
fleet() {
    AITBC_URL=$COORDINATOR_URL AITBC_KEY_FILE=$KEYS/admin.key timeout 900 "$BIN/aitbc" --json --quiet \
        fleet --this-is-a-trial "$@"
}

# whole postgres|sqlite|backlog|priorities ROUND: jobs from submission to credit, with the number of
# miners that is best; behind a backlog, with that of those without one.
whole() {
    local what=$1 miners choice=$1
    [[ $what != backlog || ! -s $DIR/best.postgres ]] || choice=postgres
    for miners in $(choices "$choice" "$DISPATCH_MINERS"); do
        whole_with "$what" "$2" "$miners" >"$DIR/whole.json"
        cat "$DIR/whole.json" >>"$DIR/wholes.json"
    done
    best "$choice" miners <"$DIR/wholes.json"
    rm "$DIR/wholes.json"
}

whole_with() {
    local what=$1 name=$1_$2_$3 miners=$3 url=sqlite more=()
    [[ $what == sqlite ]] || url=$(new_database "$name")
    open_coordinator "$name" "$url" >&2
    if [[ $what == backlog ]]; then unrunnable "$name" "$DISPATCH_BACKLOG" >&2; fi
    if [[ $what == priorities ]]; then more=(--priorities 10); fi
    metered "$url" "$DISPATCH_JOBS" fleet --miners "$miners" --jobs "$DISPATCH_JOBS" --batch 500 "${more[@]}"
    audit "$DIR/$name" >&2
    close_coordinator "$name"
    [[ $what == sqlite ]] || sql "drop database $name" >&2
}

# audit DIR: the books of a coordinator, or the end.
audit() { coordinator "$1" ledger audit >/dev/null 2>&1 || die "the books of $1 do not balance"; }

# unrunnable NAME COUNT: jobs that no miner of the fleet can take, in front of all others.
unrunnable() {
    local body i
    body=$(jq -nc '{jobs: [range(1000) | {workload: "hash", input: {inline: {text: "x"}}, priority: 9,
        constraints: {gpu: true, min_vram_gb: 64}, ttl_seconds: 86400}]}')
    make_key "$DIR/$1" crowd --scope client --client crowd
    for ((i = 0; i < $2 / 1000; i++)); do
        post crowd /v1/jobs/batch "$body" >/dev/null
    done
}

# requests_of ROUTE [URL]: how many requests were answered with success until now.
requests_of() {
    curl --silent --fail "${2:-$COORDINATOR_URL}/metrics" | awk -v route="route=\"$1\"" '
        /^aitbc_http_requests_total/ && index($0, route) && /status="20/ { all += $2 }
        END { printf "%d\n", all }'
}

# is_credited [URL]: whether the first job is.
is_credited() { (($(requests_of /v1/miner/proof "$@") > 0)); }

# credits_in SECONDS: how many jobs are credited per second.
credits_in() {
    local before
    before=$(requests_of /v1/miner/proof)
    sleep "$1"
    jq -n "($(requests_of /v1/miner/proof) - $before) / $1"
}

# all_wait FLEET MINERS: whether that many are there, of a fleet that still runs.
all_wait() {
    kill -0 "$1" 2>/dev/null || die "the fleet has ended"
    (($(as admin --json stats | jq .miners.online) >= $2))
}
