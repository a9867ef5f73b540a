# shellcheck shell=bash
# Whom the guest works for, on this machine's side of the virtual network: a coordinator, and a pool
# that computes every share again. To be sourced, after programs.sh.

# open_market DIR
open_market() {
    KEYS=$1/keys
    mkdir -m 700 "$KEYS"
    # This script asks ten times a second how far things have come.
    set_up_coordinator "$1/coordinator" sqlite 'listen: {host: 127.0.0.1}' \
        'limits: {client_per_minute: 100000, admin_per_minute: 100000}'
    start_coordinator "$1/coordinator"
    at_end stop_process "$COORDINATOR_PID"
    make_key "$1/coordinator" client --scope client --client client_demo
    make_key "$1/coordinator" admin --scope admin
    make_key "$1/coordinator" miner --scope miner --wallet wallet_demo
    export GUEST_URL=${COORDINATOR_URL/127.0.0.1/10.0.2.2}
}

open_pool() {
    local program
    cargo build --quiet --locked -p mining --example test_pool
    program=$BIN/examples/test_pool
    "$program" --dialect bitcoin --difficulty 0.00002 >"$1/pool" 2>&1 &
    POOL_PID=$!
    at_end stop_process "$POOL_PID"
    wait_until 20 "the pool to listen" grep -q '^stratum' "$1/pool"
    POOL_LOG=$1/pool
    POOL_URL=$(sed -n '/^stratum/{s/127\.0\.0\.1/10.0.2.2/p;q}' "$1/pool")
    export POOL_URL
}

shares() { grep -c 'Share(Accepted)' "$POOL_LOG" || true; }
has_more_shares() { (($(shares) > $1)); }

# submit JSON: sets JOB.
submit() { JOB=$(post client /v1/jobs "$1" | jq -r .job_id); }

job() { api client GET "/v1/jobs/${1:-$JOB}"; }
job_state() { job "${1:-$JOB}" | jq -r .state; }
is_running() { [[ $(job_state "${1:-$JOB}") == RUNNING ]]; }
is_over() { [[ $(job_state "${1:-$JOB}") =~ ^(COMPLETED|FAILED|CANCELED|EXPIRED)$ ]]; }
all_over() {
    local id
    for id in "$@"; do is_over "$id" || return 1; done
}
states() {
    local id
    for id in "$@"; do job_state "$id"; done | sort | uniq -c | xargs
}

# knows_node NAME: the guest before this one is known, too.
knows_node() {
    api admin GET /v1/admin/miners | jq -e --arg name "$1" 'any(.items[]; .registered and .miner_id == $name)' >/dev/null
}
