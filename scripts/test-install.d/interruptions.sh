# shellcheck shell=bash
# shellcheck disable=SC2016  # what is quoted is for the shell in the guest
# Whatever happens to the service or the machine: each job that was submitted ends once, as it should,
# and the log has no hole. To be sourced.

interruptions() {
    step "interruptions"
    during restart 'systemctl restart aitbc-miner'
    during "stop, and start" 'systemctl stop aitbc-miner; systemctl start aitbc-miner'
    during "kill -9" 'systemctl kill --kill-whom=main --signal=KILL aitbc-miner'
    during "a node that stands still" 'systemctl kill --kill-whom=main --signal=STOP aitbc-miner'
    during_reboot reboot_guest "a reboot"
    during_reboot cut_power "a power cut"
    full_disk
    rotation
}

# Two jobs: one at work, one that waits.
submit_pair() {
    PAIR=()
    submit '{"command": "sh", "args": ["-c", "sleep 10; echo done"], "max_attempts": 5}'
    PAIR+=("$JOB")
    submit '{"command": "sh", "args": ["-c", "echo second"], "max_attempts": 5}'
    PAIR+=("$JOB")
    wait_until 120 "a job to run" is_running "${PAIR[0]}" || true
}

pair_ends() {
    wait_until 400 "both jobs to end" all_over "${PAIR[@]}" || true
    same "jobs after $1" "$(states "${PAIR[@]}")" "2 COMPLETED"
    COMPLETED=$((COMPLETED + 2))
}

# during WHAT COMMAND: in the guest.
during() {
    submit_pair
    guest "$2"
    pair_ends "$1"
    same "the service after $1" "$(unit_state)" active
}

during_reboot() {
    submit_pair
    "$1"
    pair_ends "$2"
    same "the service after $2" "$(unit_state)" active
    same "failed units after $2" "$(guest 'systemctl --failed --plain --no-legend | grep -c aitbc' || true)" 0
}

cut_power() {
    power_off
    boot
}

full_disk() {
    guest 'fallocate -l "$(($(df --output=avail -B1 / | tail -n 1) - 4194304))" /filling && sync'
    submit_pair_to_full_disk
    wait_until 60 "the node to say why it takes none" says_disk_is_full || true
    expect "the node says that the disk is full" says_disk_is_full
    # The first may have come by a question that was asked before: then it is tried again.
    guest 'rm /filling'
    pair_ends "a full disk"
}

submit_pair_to_full_disk() {
    wait_until 60 "the node to see it" says_disk_is_full || true
    PAIR=()
    submit '{"command": "sh", "args": ["-c", "echo one"]}'
    PAIR+=("$JOB")
    submit '{"command": "sh", "args": ["-c", "echo two"]}'
    PAIR+=("$JOB")
}

says_disk_is_full() { guest miner-node why 2>/dev/null | grep -qE 'but .*(MiB|free|space)'; }

rotation() {
    local before
    before=$(guest 'wc -l </var/log/aitbc-miner.log')
    guest 'logrotate -f /etc/logrotate.d/aitbc-miner'
    guest systemctl restart aitbc-miner
    expect "old lines are in the rotated file" guest "test \$(zcat /var/log/aitbc-miner.log.1.gz | wc -l) -ge $before"
    expect "new lines come" wait_until 60 "a line" guest 'grep -q BOOT /var/log/aitbc-miner.log'
    same "zero bytes in the new file (a hole)" "$(guest 'tr -dc "\000" </var/log/aitbc-miner.log | wc -c')" 0
    same "its mode" "$(guest stat -c %a /var/log/aitbc-miner.log)" 600
    expect "a restart keeps the lines" guest 'n=$(wc -l </var/log/aitbc-miner.log); systemctl restart aitbc-miner; test $(wc -l </var/log/aitbc-miner.log) -ge $n'
}

# --- upgrades ---------------------------------------------------------------------------------

upgrades() {
    local pid
    step "upgrades"
    # The same program but for a byte that nobody reads.
    guest 'cp -r /root/release /root/newer && echo >>/root/newer/bin/miner-node'
    submit '{"command": "sh", "args": ["-c", "sleep 20; echo in peace"], "max_attempts": 1}'
    expect "a job runs" wait_until 120 "the job to run" is_running
    expect "an upgrade works" guest "AITBC_HEALTH_SECS=300 /root/newer/scripts/install_miner.sh"
    expect "the new program runs" guest "cmp /proc/$(main_pid)/exe /root/newer/bin/miner-node"
    expect "the job ends" wait_until 60 "the job to end" is_over
    same "the job that ran, on its only attempt" "$(job_state)" COMPLETED
    COMPLETED=$((COMPLETED + 1))
    guest 'cp -r /root/newer /root/broken && printf "#!/bin/sh\ntest \"\$1\" = --version\n" >/root/broken/bin/miner-node'
    pid=$(main_pid)
    expect "an upgrade that does not work fails" guest "! AITBC_HEALTH_SECS=300 /root/broken/scripts/install_miner.sh >/root/broken.log 2>&1"
    expect "and says that it was taken back" guest 'grep -q "taken back" /root/broken.log'
    expect "the old program runs again" guest "cmp /proc/$(main_pid)/exe /root/newer/bin/miner-node"
    expect "as another process" test "$(main_pid)" != "$pid"
    submit '{"command": "sh", "args": ["-c", "echo after"]}'
    expect "a job ends" wait_until 120 "the job to end" is_over
    same "a job after it" "$(job_state)" COMPLETED
    COMPLETED=$((COMPLETED + 1))
}

# --- removal ----------------------------------------------------------------------------------

removal() {
    step "removal"
    put_into_guest "$DIST"/aitbc-miner_*.deb /root/
    expect "the package does not come beside the tarball's" guest '! dpkg -i /root/aitbc-miner_*.deb >/root/dpkg.log 2>&1'
    expect "and says how it may" guest 'grep -q "install_miner.sh --uninstall" /root/dpkg.log'
    same "the service after it" "$(unit_state)" active
    guest /root/newer/scripts/install_miner.sh --uninstall
    expect "configuration, key, state and log stay" guest 'test -s /etc/aitbc/miner.conf -a -s /etc/aitbc/api_key -a -d /var/lib/aitbc/miner -a -s /var/log/aitbc-miner.log'
    guest /root/newer/scripts/install_miner.sh --uninstall --purge
    guest 'rm -rf /root/release /root/newer /root/broken /root/*.log /root/*.deb'
    nothing_is_left
}

nothing_is_left() {
    same "what is left" "$(guest 'find / -xdev \( -path /proc -o -path /tmp -o -path /var/log/journal -o -path /root \) -prune -o \( -name "*aitbc*" -o -name "*miner-node*" \) -print; find /root -name "*aitbc*"; getent passwd aitbc-miner; ps -e -o comm= | grep miner-node' || true)" ""
}
