# shellcheck shell=bash
# What must hold when all jobs have ended: each is completed, with one receipt and one transfer, and
# the books are clean. To be sourced, after programs.sh and checks.sh.

# pages KEY PATH: all items of a list, one to a line.
pages() {
    local key=$1 path=$2 cursor='' page
    while :; do
        page=$(api "$key" GET "$path?limit=200${cursor:+&cursor=$cursor}")
        jq -c '.items[]' <<<"$page"
        cursor=$(jq -r '.next // ""' <<<"$page")
        [[ -n $cursor ]] || break
    done
}

no_jobs_live() {
    sleep 0.5
    [[ $(api admin GET /v1/admin/stats | jq '.live_jobs | add // 0') == 0 ]]
}

# check_jobs DIR JOBS
check_jobs() {
    local dir=$1 jobs=$2
    pages client /v1/jobs >"$dir/jobs.jsonl"
    same "states of the jobs" "$(jq -r .state "$dir/jobs.jsonl" | sort | uniq -c | xargs)" \
        "$jobs COMPLETED"
    jq -r '[.attempt, (.error.code // "")] | @tsv' "$dir/jobs.jsonl" | sort | uniq -c |
        sed 's/^ */      jobs, attempts, last failure: /'
    same "jobs with a receipt of their own" \
        "$(jq -r '.receipt_id // empty' "$dir/jobs.jsonl" | sort -u | wc -l)" "$jobs"
}

# check_files DIR: what was left behind by a job is there, whichever replica is asked: DIR/sorted.txt.
# After check_jobs.
check_files() {
    local dir=$1 job right=0 sorted=0
    for job in $(jq -r 'select(.artifacts != null) | .job_id' "$dir/jobs.jsonl"); do
        sorted=$((sorted + 1))
        if api client GET "/v1/jobs/$job/artifacts/1" | cmp -s - "$dir/sorted.txt"; then
            right=$((right + 1))
        fi
    done
    expect "files of jobs that are whole: $right of $sorted" test "$right" = "$sorted" -a "$right" -gt 0 || true
}

# check_books DIR COORDINATOR JOBS: with the key node-1 of the wallet, and by an audit of the
# coordinator in directory COORDINATOR.
check_books() {
    local dir=$1 coordinator=$2 jobs=$3
    pages node-1 /v1/wallet/ledger >"$dir/ledger.jsonl"
    same "credits of the wallet" "$(wc -l <"$dir/ledger.jsonl")" "$jobs"
    same "jobs that were credited" "$(jq -r .job_id "$dir/ledger.jsonl" | sort -u | wc -l)" "$jobs"
    coordinator "$coordinator" ledger audit --json >"$dir/audit.json" || true
    same "faults in the books" "$(jq -c .faults "$dir/audit.json")" '[]'
    same "receipts and transfers" "$(jq -c '[.receipts, .transfers]' "$dir/audit.json")" \
        "[$jobs,$jobs]"
}
