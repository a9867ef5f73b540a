# shellcheck shell=bash
# Other queues on the same PostgreSQL, each as its own documentation sets it up for speed. None of
# them authenticates anybody, signs, or keeps books. To be sourced, after dispatch.sh.

PEERS=$ROOT/scripts/bench.d/peers
GRAPHILE=0.17.3
GRAPHILE_RUST=0.14.1
PROCRASTINATE=3.10.0
PGMQ=1.5.1
# A burn-down of the slowest takes fewer jobs.
PEER_JOBS_FEW=${PEER_JOBS_FEW:-1000}

# Installs them below DIR; what cannot be had is left out, and said so.
need_peers() {
    mkdir -p "$DIR/peers"
    cp "$PEERS"/* "$DIR/peers/"
    ! is_wanted graphile_plain graphile_batched || install_graphile ||
        say "graphile-worker cannot be installed and is left out" >&2
    ! is_wanted graphile_rust_plain graphile_rust_batched || build_graphile_rust ||
        say "graphile_worker cannot be built and is left out" >&2
    ! is_wanted procrastinate || install_procrastinate ||
        say "procrastinate cannot be installed and is left out" >&2
    ! is_wanted pgmq_1 pgmq_50 || fetch_pgmq || say "pgmq cannot be fetched and is left out" >&2
}

install_graphile() {
    need npm npm
    say "installing: graphile-worker $GRAPHILE" >&2
    (cd "$DIR/peers" && npm install --silent --no-fund --no-audit "graphile-worker@$GRAPHILE")
}

# In a project of its own, with optimisation whatever ours is built with. What it is built of is kept
# below our target directory for the next run.
build_graphile_rust() {
    local target
    target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)/peers || return
    say "building: graphile_worker $GRAPHILE_RUST" >&2
    cat >"$DIR/peers/Cargo.toml" <<-TOML
		[package]
		name = "graphile-rust"
		version = "0.0.0"
		edition = "2024"
		publish = false
		[[bin]]
		name = "graphile-rust"
		path = "graphile.rs"
		[dependencies.graphile_worker]
		version = "=$GRAPHILE_RUST"
		default-features = false
		features = ["driver-sqlx", "runtime-tokio"]
		[dependencies]
		serde = { version = "1", features = ["derive"] }
		serde_json = "1"
		sqlx = { version = "0.9", default-features = false, features = ["postgres", "runtime-tokio"] }
		tokio = { version = "1", features = ["macros", "rt-multi-thread", "time"] }
		[workspace]
	TOML
    (cd "$DIR/peers" && cargo build --quiet --release --target-dir "$target") &&
        cp "$target/release/graphile-rust" "$DIR/peers/"
}

install_procrastinate() {
    need python3 python3 '/usr/lib/python3*/ensurepip' python3-venv
    say "installing: procrastinate $PROCRASTINATE" >&2
    python3 -m venv "$DIR/peers/venv" &&
        "$DIR/peers/venv/bin/pip" --quiet --disable-pip-version-check install \
            "procrastinate==$PROCRASTINATE" 'psycopg[binary,pool]'
}

# The whole of it is one file of SQL; PGMQ_SQL names one that is here already.
fetch_pgmq() {
    if [[ -n ${PGMQ_SQL-} ]]; then
        cp "$PGMQ_SQL" "$DIR/peers/pgmq.sql"
    else
        curl -fsSL --max-time 60 -o "$DIR/peers/pgmq.sql" \
            "https://raw.githubusercontent.com/pgmq/pgmq/v$PGMQ/pgmq-extension/sql/pgmq.sql"
    fi
}

# peers ROUND: one turn of each that is there.
peers() {
    local round=$1 python=$DIR/peers/venv/bin/python
    if [[ -d $DIR/peers/node_modules/graphile-worker ]]; then
        turn graphile_plain peer "plain_$round" "$DISPATCH_JOBS_SINGLY" node "$DIR/peers/graphile.mjs" plain
        turn graphile_batched peer "batched_$round" "$DISPATCH_JOBS" node "$DIR/peers/graphile.mjs" batched
    fi
    if [[ -x $DIR/peers/graphile-rust ]]; then
        turn graphile_rust_plain peer "rust_plain_$round" "$DISPATCH_JOBS_SINGLY" \
            "$DIR/peers/graphile-rust" plain
        turn graphile_rust_batched peer "rust_batched_$round" "$DISPATCH_JOBS" \
            "$DIR/peers/graphile-rust" batched
    fi
    if "$python" -c 'import procrastinate' 2>/dev/null; then
        turn procrastinate peer "procrastinate_$round" "$PEER_JOBS_FEW" \
            "$python" "$DIR/peers/procrastinate_burn.py"
    fi
    if [[ -s $DIR/peers/pgmq.sql ]]; then
        turn pgmq_1 pgmq 1 "$round" "$DISPATCH_JOBS_SINGLY"
        turn pgmq_50 pgmq 50 "$round" "$DISPATCH_JOBS"
    fi
}

# peer DATABASE JOBS COMMAND ...: in a database of its own, whose URL is in DATABASE_URL.
peer() {
    local name=$1 jobs=$2 url
    shift 2
    url=$(new_database "$name")
    DATABASE_URL=$url metered "$url" "$jobs" "$@" "$jobs" 2>"$DIR/peer.log" ||
        die "$name: $(tail -n 12 "$DIR/peer.log")"
    sql "drop database $name" >&2
}

# pgmq BATCH ROUND JOBS: read and delete, by pgbench, at its best number of clients.
pgmq() {
    local batch=$1 jobs=$3 name=pgmq_$1_$2 url clients
    cat >"$DIR/pgmq.sql" <<-SQL
		select array_agg(msg_id) as ids from pgmq.read('work', 30, $batch) \\gset
		select count(*) from pgmq.delete('work', cast(:ids as bigint[]));
	SQL
    for clients in $(choices "pgmq_$batch" "$DISPATCH_CLIENTS"); do
        url=$(new_database "$name")
        PGOPTIONS='-c client_min_messages=warning' "$POSTGRES_BIN/psql" --quiet --dbname "$url" \
            --command 'create schema pgmq' --file "$DIR/peers/pgmq.sql" >/dev/null
        metered "$url" "$jobs" pgmq_with "$batch" "$clients" "$jobs" "$url"
        sql "drop database $name" >&2
    done | best "pgmq_$batch" clients
}

pgmq_with() {
    local batch=$1 clients=$2 jobs=$3 url=$4 tps
    "$POSTGRES_BIN/psql" --quiet --dbname "$url" >/dev/null <<-SQL
		select pgmq.create('work');
		select count(*) from pgmq.send_batch('work',
		    array(select '{"text": "bench"}'::jsonb from generate_series(1, $((jobs + clients * batch)))));
	SQL
    tps=$(burn "$clients" "$(turns "$jobs" "$batch" "$clients")" "$DIR/pgmq.sql" "$url")
    jq -n "{per_sec: ($tps * $batch), clients: $clients}"
}
