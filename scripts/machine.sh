# shellcheck shell=bash
# What the scripts need of the machine: packages, a throw-away PostgreSQL, a clean end.
# To be sourced. Nothing here knows what is built or tested.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"

# haproxy, ip and others lie where Debian looks for root only.
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# --- the end of a script: whatever was started is stopped, last one first ---------------------

ENDINGS=()

# at_end COMMAND [ARGUMENT ...]
at_end() { ENDINGS+=("$(printf '%q ' "$@")"); }

run_endings() {
    local status=$? i
    trap - EXIT INT TERM HUP
    for ((i = ${#ENDINGS[@]} - 1; i >= 0; i--)); do
        eval "${ENDINGS[i]}" || true
    done
    exit "$status"
}

trap run_endings EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# --- where a program runs ---------------------------------------------------------------------

# What stands before the programs that are started: a network of their own, another clock. Empty:
# they run here.
INSIDE=()

# --- packages ---------------------------------------------------------------------------------

# need COMMAND PACKAGE [COMMAND PACKAGE ...]: installs, in one go, the packages whose command is
# missing. COMMAND may be an absolute path or a pattern of one.
need() {
    local packages=()
    while (($#)); do
        has_command "$1" || packages+=("$2")
        shift 2
    done
    ((${#packages[@]})) || return 0
    say "installing: ${packages[*]}"
    command -v apt-get >/dev/null ||
        die "please install ${packages[*]}: this is no Debian, so it cannot be done here"
    local as_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "please install as root: apt-get install ${packages[*]}"
        as_root=(sudo)
    fi
    local install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
        --no-install-recommends install "${packages[@]}")
    # The lists may be absent or old; asking for new ones takes longer than most installs.
    "${install[@]}" >/dev/null 2>&1 && return 0
    "${as_root[@]}" apt-get -q update >/dev/null
    "${install[@]}" >/dev/null
}

has_command() {
    case $1 in
        /*) compgen -G "$1" >/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

# What it takes to build: cargo comes from rustup, the rest from the system.
need_build_tools() {
    command -v cargo >/dev/null || die "please install Rust first: https://rustup.rs"
    # cmake: for the reference implementation of RandomX.
    need cc build-essential git git cmake cmake
}

# What the programs and these scripts use while they run.
need_run_tools() {
    need curl curl jq jq bwrap bubblewrap prlimit util-linux sha256sum coreutils gzip gzip \
        zstd zstd ps procps /usr/bin/python3 python3
}

# A Monero daemon, for a chain of our own that blocks are mined for.
need_monerod() { need monerod monero; }

# --- PostgreSQL -------------------------------------------------------------------------------

POSTGRES_BIN=
POSTGRES_DIR=
POSTGRES_PORT=
# Where it listens. Any but the loopback interface is for networks that nobody else is in.
POSTGRES_HOST=127.0.0.1
export POSTGRES_URL=

need_postgres() {
    need '/usr/lib/postgresql/*/bin/pg_ctl' postgresql
    POSTGRES_BIN=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1)
}

# PostgreSQL refuses to run as root.
as_postgres() {
    if ((EUID == 0)); then
        (cd / && exec "${INSIDE[@]}" runuser -u postgres -- "$@")
    else
        "${INSIDE[@]}" "$@"
    fi
}

# start_postgres DIR [on|off] [SETTING ...]: a cluster of its own below DIR, on a free port of
# POSTGRES_HOST, with a password that nobody else knows. `off` trades safety against power cuts for
# speed; it changes nothing for processes that are killed. Sets POSTGRES_URL.
start_postgres() {
    local dir=$1 fsync=${2:-off} password
    shift "$(($# < 2 ? $# : 2))"
    need_postgres
    POSTGRES_DIR=$dir
    if ((EUID == 0)) && ! as_postgres test -x "$(dirname "$dir")"; then
        # The user postgres cannot enter the directory that was asked for.
        POSTGRES_DIR=$(mktemp -d /tmp/aitbc-postgres.XXXXXX)
        ln -sfn "$POSTGRES_DIR" "$dir"
        at_end rm -rf "$POSTGRES_DIR" "$dir"
    fi
    mkdir -p "$POSTGRES_DIR"
    chmod 700 "$POSTGRES_DIR"
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    printf '%s\n' "$password" >"$POSTGRES_DIR/password"
    if ((EUID == 0)); then chown -R postgres "$POSTGRES_DIR"; fi
    as_postgres "$POSTGRES_BIN/initdb" --pgdata="$POSTGRES_DIR/data" --username=postgres \
        --pwfile="$POSTGRES_DIR/password" --auth=scram-sha-256 --encoding=UTF8 \
        --locale=C.UTF-8 --no-sync >"/dev/null"
    cat >>"$POSTGRES_DIR/data/postgresql.conf" <<-CONFIG
		listen_addresses = '$POSTGRES_HOST'
		unix_socket_directories = ''
		max_connections = 400
		shared_buffers = 128MB
		fsync = $fsync
		full_page_writes = $fsync
		log_min_messages = warning
		$(printf '%s\n' "$@")
	CONFIG
    printf 'host all all 10.77.0.0/16 scram-sha-256\n' >>"$POSTGRES_DIR/data/pg_hba.conf"
    at_end stop_postgres
    local try
    for try in 1 2 3 4 5; do
        POSTGRES_PORT=$(free_port)
        if postgres_ctl start; then break; fi
        ((try < 5)) || die "PostgreSQL does not start, see $POSTGRES_DIR/log"
    done
    POSTGRES_URL="postgres://postgres:$password@$POSTGRES_HOST:$POSTGRES_PORT/postgres"
}

postgres_ctl() {
    as_postgres "$POSTGRES_BIN/pg_ctl" --pgdata="$POSTGRES_DIR/data" --log="$POSTGRES_DIR/log" \
        --options="-p $POSTGRES_PORT" --wait --silent "$@" >/dev/null
}

# The process that ends all others of it; another one after a restart.
postgres_pid() { head -n 1 "$POSTGRES_DIR/data/postmaster.pid"; }

# PostgreSQL dies at once, as in a crash, and comes back on the same port.
crash_postgres() { postgres_ctl --mode=immediate restart; }

stop_postgres() {
    [[ -n $POSTGRES_DIR && -e $POSTGRES_DIR/data/postmaster.pid ]] || return 0
    postgres_ctl --mode=immediate stop
}

# A port that nobody listens on. Whoever uses it must still be ready to find it taken.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    printf '%s\n' "$port"
}

# --- S3 ---------------------------------------------------------------------------------------

export S3_URL=

# start_s3 DIR: moto's S3, which keeps everything in memory, on a free port of the loopback
# interface; with its files in DIR. `MOTO` names a moto_server to use; else the one on the path is,
# else one is installed into DIR. Sets S3_URL.
start_s3() {
    local dir=$1 moto=${MOTO-} port pid tries
    mkdir -p "$dir"
    [[ -n $moto ]] || moto=$(command -v moto_server || true)
    if [[ -z $moto ]]; then
        need python3 python3 '/usr/lib/python3*/ensurepip' python3-venv
        say "installing: moto"
        python3 -m venv "$dir/venv"
        "$dir/venv/bin/pip" --quiet --disable-pip-version-check install 'moto[s3,server]==5.2.1'
        moto=$dir/venv/bin/moto_server
    fi
    port=$(free_port)
    "$moto" -H 127.0.0.1 -p "$port" >"$dir/log" 2>&1 &
    pid=$!
    at_end kill "$pid"
    for ((tries = 0; tries < 300; tries++)); do
        if curl --silent --noproxy '*' --fail --output /dev/null "http://127.0.0.1:$port/"; then
            S3_URL=http://127.0.0.1:$port
            return
        fi
        kill -0 "$pid" 2>/dev/null || die "$moto does not run: $(tail -n 3 "$dir/log")"
        sleep 0.1
    done
    die "$moto does not answer"
}
