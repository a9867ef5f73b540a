# shellcheck shell=bash
# Jobs under real control groups, and mining that makes room for them. To be sourced.

limits() {
    local peak
    step "limits"
    # As many as an emulated machine starts within seconds.
    echo 'sandbox: {max_processes: 64}' | text_into_guest /etc/aitbc/miner.yaml
    # The service gets a copy, whoever may read it.
    guest 'chmod 600 /etc/aitbc/miner.yaml; systemctl restart aitbc-miner'
    submit '{"command": "sh", "args": ["-c", "tail /dev/zero"], "limits": {"ram_mb": 96, "max_runtime_s": 300}, "max_attempts": 1}'
    expect "a job that takes all memory ends" wait_until 240 "the hog to end" is_over
    same "how it ended" "$(job | jq -r .error.code)" E_OOM
    peak=$(job | jq '.error.metrics.max_rss_mb // 0')
    expect "its peak is known: $peak MiB of 96" test "$peak" -ge 90 -a "$peak" -le 96
    same "the service after it" "$(unit_state)" active

    submit '{"command": "sh", "args": ["-c", "head -c 50000000 /dev/zero | tail -c 50000000 | wc -c"], "limits": {"ram_mb": 96}}'
    expect "a job that keeps to its memory ends" wait_until 120 "the job to end" is_over
    same "how it ended" "$(job_state)" COMPLETED
    COMPLETED=$((COMPLETED + 1))
    peak=$(api client GET "/v1/jobs/$JOB/result" | jq '.metrics.max_rss_mb // 0')
    expect "its peak is known: $peak MiB of 96" test "$peak" -ge 47 -a "$peak" -le 96

    submit '{"command": "sh", "args": ["-c", "f() { f | f & }; f; sleep 1000"], "limits": {"max_runtime_s": 20}, "max_attempts": 1}'
    expect "a fork bomb hits pids.max" wait_until 120 "the kernel to refuse it a process" bomb_is_stopped
    expect "it ends" wait_until 240 "the bomb to end" is_over
    same "the state of the bomb" "$(job_state)" FAILED
    say "it ended with $(job | jq -r .error.code)"
    expect "nothing of it is left" wait_until 60 "its control group to go" no_job_groups
    same "the service after it" "$(unit_state)" active
}

JOB_GROUPS='/sys/fs/cgroup/system.slice/aitbc-miner.service/aitbc-job-*'

bomb_is_stopped() {
    (($(guest "cat $JOB_GROUPS/pids.events 2>/dev/null" | awk '$1 == "max" { sum += $2 } END { print sum + 0 }') > 0))
}
no_job_groups() { [[ $(guest "ls -d $JOB_GROUPS 2>/dev/null" | wc -l) == 0 ]]; }

# GhostRider: RandomX takes minutes for its first hash where the processor is emulated.
mining() {
    local before
    step "mining"
    text_into_guest /etc/aitbc/miner.yaml <<-YAML
		mining:
		  enabled: true
		  algo: gr
		  pools: [{url: "$POOL_URL", user: wallet_demo}]
		  policy: {load_pct: 100, busy_pct: 100, quiet_s: 1, input_s: 0, quantum_s: 1}
	YAML
    guest systemctl restart aitbc-miner
    before=$(shares)
    expect "shares of the guest are accepted" wait_until 400 "a share" has_more_shares "$before"
    expect "it mines with threads" wait_until 60 "threads" mines
    submit '{"command": "sh", "args": ["-c", "sleep 30"], "constraints": {"cpu_threads": 2}}'
    expect "a job runs beside it" wait_until 90 "the job to run" is_running
    expect "mining has let go of its threads" wait_until 20 "mining to yield" does_not_mine
    guest miner-node why 2>/dev/null | sed -n '1,3p'
    expect "the job ends" wait_until 120 "the job to end" is_over
    same "the job" "$(job_state)" COMPLETED
    COMPLETED=$((COMPLETED + 1))
    expect "mining goes on" wait_until 60 "threads" mines
    before=$(shares)
    expect "and earns" wait_until 400 "a share" has_more_shares "$before"
    guest 'rm /etc/aitbc/miner.yaml; systemctl restart aitbc-miner'
}

threads() { guest miner-node why --json 2>/dev/null | jq '.decision.threads // 0'; }
mines() { (($(threads) > 0)); }
does_not_mine() { is_running && (($(threads) == 0)); }
