# shellcheck shell=bash
# What dispatch measured: one document, a table, the history of runs. To be sourced, after
# dispatch.sh.

# All runs that were recorded.
DISPATCH_HISTORY=docs/benchmarks/dispatch.json

# dispatch_report LOAD: all that was measured, beside the last recorded run of the same size.
dispatch_report() {
    local name load=$1
    for name in "${CONTENDERS[@]}" "${ALONE[@]}"; do
        [[ ! -e $DIR/$name.jsonl ]] || jq -s "{$name: .}" "$DIR/$name.jsonl"
    done | jq -s --arg profile "$PROFILE" --argjson cores "$(nproc)" --argjson jobs "$DISPATCH_JOBS" \
        --argjson jobs_singly "$DISPATCH_JOBS_SINGLY" --argjson backlog "$DISPATCH_BACKLOG" \
        --arg postgres "$("$POSTGRES_BIN/postgres" --version)" --arg date "$(date --utc +%F)" \
        --arg kernel "$(uname -r)" --argjson load "$load" --arg only "$ONLY" \
        --arg commit "$(git rev-parse --short HEAD)" --argjson memory_kib "$(awk '/^MemTotal/ {print $2}' /proc/meminfo)" \
        --argjson history "$(cat "$DISPATCH_HISTORY" 2>/dev/null || printf '[]')" \
        -f scripts/bench.d/dispatch_report.jq >"$DIR/report.json"
    [[ -z $JSON ]] || cp "$DIR/report.json" "$JSON"
}

# unfinished LOAD: what there is of a run that came to no end. Where stdout goes now depends on where
# the end came.
unfinished() {
    [[ ! -e $DIR/report.json ]] || return 0
    say "the run came to no end; this was measured until then:" >&2
    dispatch_report "$1"
    dispatch_table >&2
}

# record_run: without the figures of each round.
record_run() {
    { cat "$DISPATCH_HISTORY" 2>/dev/null || printf '[]'; } |
        jq --slurpfile run "$DIR/report.json" '. + [$run[0] | del(.all, .against)]' >"$DIR/history.json"
    cp "$DIR/history.json" "$DISPATCH_HISTORY"
    say "recorded in $DISPATCH_HISTORY" >&2
}

dispatch_table() { jq -r -f scripts/bench.d/dispatch_table.jq "$DIR/report.json"; }
