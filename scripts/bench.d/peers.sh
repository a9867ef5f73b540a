# shellcheck shell=bash
# Other queues on the same PostgreSQL, each as its own documentation sets it up for speed. None of
# them authenticates anybody, signs, or keeps books. To be sourced, after dispatch.sh.

PEERS=$ROOT/scripts/bench.d/peers
GRAPHILE=0.17.3
PROCRASTINATE=3.10.0
PGMQ=1.5.1
# A burn-down of the slow ones takes fewer jobs.
PEER_JOBS_FEW=${PEER_JOBS_FEW:-2000}

# Installs them below DIR; what cannot be had is left out, and said so.
need_peers() {
    need npm npm python3 python3 '/usr/lib/python3*/ensurepip' python3-venv
    say "installing: graphile-worker $GRAPHILE, procrastinate $PROCRASTINATE, pgmq $PGMQ" >&2
    mkdir -p "$DIR/peers"
    cp "$PEERS"/* "$DIR/peers/"
    (cd "$DIR/peers" && npm install --silent --no-fund --no-audit "graphile-worker@$GRAPHILE") ||
        say "graphile-worker cannot be installed and is left out" >&2
    python3 -m venv "$DIR/peers/venv"
    "$DIR/peers/venv/bin/pip" --quiet --disable-pip-version-check install \
        "procrastinate==$PROCRASTINATE" 'psycopg[binary,pool]' ||
        say "procrastinate cannot be installed and is left out" >&2
    # The whole of pgmq is one file of SQL; PGMQ_SQL names one that is here already.
    if [[ -n ${PGMQ_SQL-} ]]; then
        cp "$PGMQ_SQL" "$DIR/peers/pgmq.sql"
    else
        curl -fsSL --max-time 60 -o "$DIR/peers/pgmq.sql" \
            "https://raw.githubusercontent.com/pgmq/pgmq/v$PGMQ/pgmq-extension/sql/pgmq.sql" ||
            say "pgmq cannot be fetched and is left out" >&2
    fi
}

# peers ROUND: one turn of each that is there.
peers() {
    local round=$1
    if [[ -d $DIR/peers/node_modules/graphile-worker ]]; then
        peer graphile_plain "$round" node "$DIR/peers/graphile.mjs" plain "$DISPATCH_JOBS"
        peer graphile_batched "$round" node "$DIR/peers/graphile.mjs" batched "$DISPATCH_JOBS"
    fi
    if "$DIR/peers/venv/bin/python" -c 'import procrastinate' 2>/dev/null; then
        peer procrastinate "$round" "$DIR/peers/venv/bin/python" "$DIR/peers/procrastinate_burn.py" \
            "$PEER_JOBS_FEW"
    fi
    if [[ -s $DIR/peers/pgmq.sql ]]; then
        peer pgmq_1 "$round" pgmq 1
        peer pgmq_50 "$round" pgmq 50
    fi
}

# peer NAME ROUND COMMAND ...: in a database of its own, whose URL is in DATABASE_URL.
peer() {
    local name=$1 round=$2 url
    is_wanted "$name" || return 0
    shift 2
    url=$(new_database "${name}_$round")
    DATABASE_URL=$url "$@" 2>"$DIR/peer.log" | keep "$name" ||
        die "$name: $(tail -n 12 "$DIR/peer.log")"
    sql "drop database ${name}_$round" >&2
}

# pgmq BATCH: read and delete, by pgbench, at its best client count.
pgmq() {
    local batch=$1 clients best=0 tps
    "$POSTGRES_BIN/psql" --quiet --dbname "$DATABASE_URL" --command 'create schema pgmq' \
        --file "$DIR/peers/pgmq.sql" >/dev/null
    cat >"$DIR/pgmq.sql" <<-SQL
		select array_agg(msg_id) as ids from pgmq.read('work', 30, $batch) \\gset
		select count(*) from pgmq.delete('work', cast(:ids as bigint[]));
	SQL
    for clients in $DISPATCH_CLIENTS; do
        "$POSTGRES_BIN/psql" --quiet --dbname "$DATABASE_URL" >/dev/null <<-SQL
			select pgmq.drop_queue('work') where exists (select from pgmq.list_queues());
			select pgmq.create('work');
			select count(*) from pgmq.send_batch('work',
			    array(select '{"text": "bench"}'::jsonb from generate_series(1, $((DISPATCH_JOBS + clients * batch)))));
		SQL
        tps=$("$POSTGRES_BIN/pgbench" --no-vacuum --protocol prepared --client "$clients" \
            --jobs $((clients < 2 ? 1 : 2)) --transactions $((DISPATCH_JOBS / batch / clients)) \
            --file "$DIR/pgmq.sql" "$DATABASE_URL" | sed -n 's/^tps = \([0-9.]*\).*/\1/p')
        best=$(jq -n "[$best, $tps * $batch] | max")
    done
    jq -nc "{per_sec: $best}"
}
