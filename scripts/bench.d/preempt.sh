# shellcheck shell=bash
# The parts of `scripts/bench preempt`: a job's arrival while the node mines, in the middle of its work.

preempt() {
    need jq jq
    need_build_tools
    local program
    program=$(bench_program miner-node preempt)
    PREEMPT_ARRIVALS=$ARRIVALS PREEMPT_RUNS=$ROUNDS PREEMPT_LIGHT=$LIGHT "$program" >"$DIR/figures.json"
    preempt_table
}

preempt_table() {
    jq --arg profile "$PROFILE" --arg load "$(cut -d ' ' -f 1-3 /proc/loadavg)" \
        '. + {what: "preemption of mining", $profile, load: $load}' "$DIR/figures.json" >"$DIR/report.json"
    jq -r 'def short: if . == null then "-" else . * 1000 | round / 1000 end;
        "| | p50 ms | p99 ms | most ms |", "| --- | --- | --- | --- |",
        "| from the lease to all threads parked that have to | \(.parked_ms.p50 | short) | \(.parked_ms.p99 | short) | \(.parked_ms.max | short) |",
        "| from the end of the job to the next hash | \(.resumed_ms.p50 | short) | \(.resumed_ms.p99 | short) | \(.resumed_ms.max | short) |",
        "", "a job of one thread: \(.job_alone_s | short) s alone, \(.job_beside_s | short) s beside mining, ratio \(.job_ratio | short) (median of \(.runs) pairs)",
        "\(.arrivals) arrivals, \(.datasets_built_meanwhile) datasets built meanwhile; \(.in_force)",
        "\(.processors) processors, load before and meanwhile \(.load), profile \(.profile)"' "$DIR/report.json"
    [[ -z $JSON ]] || cp "$DIR/report.json" "$JSON"
}
