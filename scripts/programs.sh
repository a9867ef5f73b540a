# shellcheck shell=bash
# Builds the programs, starts and stops them, and talks to a coordinator as an operator and as a
# client would: with aitbc and with curl. To be sourced, after machine.sh.
#
# API keys never become arguments, which every user of a machine can read: they live in files of
# headers, in KEYS.

# Where they are; whoever has built them may have said so.
BIN=${BIN-}
KEYS=
COORDINATOR_URL=
COORDINATOR_PID=

# build_programs dev|release: unless BIN says that they are built.
build_programs() {
    local profile=$1 folder=debug options=()
    [[ -z $BIN ]] || return 0
    [[ $profile == dev ]] || { folder=release options=(--release); }
    need_build_tools
    cargo build --quiet --locked --workspace --bins "${options[@]}"
    BIN=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)/$folder
}

# --- coordinator ------------------------------------------------------------------------------

# set_up_coordinator DIR URL|sqlite [SETTING: VALUE ...]: a directory with settings, which is its
# data directory, too, unless DATA_DIR names another. Each setting is a line of YAML; nested ones in
# its flow form.
set_up_coordinator() {
    local dir=$1 database=$2
    shift 2
    mkdir -p "$dir"
    chmod 700 "$dir"
    # A name for the shell that runs it: the URL holds a password, and arguments are public.
    DATABASE=$database
    [[ $database != sqlite ]] || DATABASE="sqlite:$dir/coordinator.db"
    {
        printf 'data_dir: "%s"\n' "${DATA_DIR:-$dir}"
        printf '%s\n' "$@"
    } >"$dir/coordinator.yaml"
}

# coordinator DIR ARGUMENT ...
coordinator() {
    local dir=$1
    shift
    DATABASE_URL=$DATABASE "$BIN/coordinator" --config "$dir/coordinator.yaml" "$@"
}

# start_coordinator DIR [PORT]: in the background, until it listens. Sets COORDINATOR_URL and
# COORDINATOR_PID.
start_coordinator() {
    local dir=$1 port=${2:-0}
    : >"$dir/listening"
    # exec: the process that is killed must be the coordinator, not a shell around it.
    (DATABASE_URL=$DATABASE exec "${INSIDE[@]}" "$BIN/coordinator" --config "$dir/coordinator.yaml" \
        --port "$port" serve >>"$dir/listening" 2>>"$dir/coordinator.log") &
    COORDINATOR_PID=$!
    wait_until 30 "the coordinator to listen" listens "$dir" ||
        die "the coordinator does not start, see $dir/coordinator.log"
    COORDINATOR_URL=$(sed -n 's/^listening on //p' "$dir/listening")
    wait_until 60 "the coordinator to be ready" curl -fs -o /dev/null "$COORDINATOR_URL/readyz"
}

listens() {
    kill -0 "$COORDINATOR_PID" 2>/dev/null ||
        die "the coordinator has ended: $(tail -n 3 "$1/coordinator.log")"
    grep -q '^listening on ' "$1/listening"
}

# stop_process PID: asks, and insists after a while.
stop_process() {
    kill -TERM "$1" 2>/dev/null || return 0
    wait_until 30 "process $1 to end" has_ended "$1" || kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

has_ended() { ! kill -0 "$1" 2>/dev/null; }

# --- keys and calls ---------------------------------------------------------------------------

# make_key DIR NAME OPTION ...: a key of coordinator DIR; its header is kept under NAME.
make_key() {
    local dir=$1 name=$2
    shift 2
    # aitbc takes no key file that others could read.
    install -m 0600 /dev/null "$KEYS/$name.key"
    coordinator "$dir" keys create "$@" 2>>"$dir/coordinator.log" >"$KEYS/$name.key"
    printf 'Authorization: Bearer %s\n' "$(cat "$KEYS/$name.key")" >"$KEYS/$name.header"
}

# as KEY ARGUMENT ...: the command line in the hands of whoever has the key. Nothing here takes
# longer than two minutes.
as() {
    local key=$1
    shift
    AITBC_URL=$COORDINATOR_URL AITBC_KEY_FILE=$KEYS/$key.key timeout 120 "$BIN/aitbc" "$@"
}

# api KEY METHOD PATH [CURL OPTION ...]: prints the body; fails, and says why, unless it is 2xx.
api() {
    local key=$1 method=$2 path=$3 body status
    shift 3
    body=$(mktemp "$KEYS/reply.XXXXXX")
    status=$(curl -sS -X "$method" -H "@$KEYS/$key.header" -o "$body" -w '%{http_code}' \
        "$@" "$COORDINATOR_URL$path") || {
        rm -f "$body"
        return 1
    }
    cat "$body"
    rm -f "$body"
    [[ $status == 2?? ]] && return
    printf '\n%s %s: HTTP %s\n' "$method" "$path" "$status" >&2
    return 1
}

# post KEY PATH JSON
post() {
    local key=$1 path=$2 json=$3
    api "$key" POST "$path" -H 'Content-Type: application/json' --data-binary @- <<<"$json"
}

# How many jobs a miner holds now.
live_leases() {
    api admin GET /v1/admin/stats |
        jq '(.live_jobs.ASSIGNED // 0) + (.live_jobs.RUNNING // 0)'
}

# --- nodes ------------------------------------------------------------------------------------

# set_up_node DIR NAME WALLET SLOTS [SETTING: VALUE ...]: a node of its own in DIR/NAME, for the
# coordinator that listens, with the allowlist that is delivered.
set_up_node() {
    local dir=$1/$2 name=$2 wallet=$3 slots=$4
    shift 4
    mkdir -p "$dir/allowlist.d"
    # Jobs have user ids of their own, which pass through it; what is secret in it is 0600.
    chmod 711 "$dir"
    install -m 0644 etc/miner/allowlist.d/*.yaml "$dir/allowlist.d"
    install -m 0600 "$KEYS/$name.key" "$dir/api_key"
    cat >"$dir/miner.yaml" <<-CONFIG
		node_id: "$name"
		wallet: "$wallet"
		coordinator:
		  {base_url: "$COORDINATOR_URL", auth_token_file: "$dir/api_key", allow_insecure: true}
		accel_mode: cpu
		runners: {cli: {allowlist_dir: "$dir/allowlist.d"}}
		resources: {max_concurrent_cpu: $slots, cpu_nice: 0}
		workspace: {root: "$dir/work"}
		shutdown: {grace_s: 5}
		$(printf '%s\n' "$@")
	CONFIG
}

# start_node DIR: in the background. Sets NODE_PID.
start_node() {
    (exec "${INSIDE[@]}" "$BIN/miner-node" --config "$1/miner.yaml" run >>"$1/node.log" 2>&1) &
    export NODE_PID=$!
}

# --- waiting ----------------------------------------------------------------------------------

# wait_until SECONDS WHAT COMMAND ...: fails, and says for what it waited, after so many seconds.
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        ((SECONDS < deadline)) || {
            say "waited in vain for $what" >&2
            return 1
        }
        sleep 0.1
    done
}
