# shellcheck shell=bash
# shellcheck disable=SC2016  # what is quoted is for the shell in the guest
# From the tarball to a service that works: what is there, with which modes, and that a second time
# changes nothing. To be sourced.


# How many jobs must have been paid at the end.
COMPLETED=0

# Emulation is slow: the miner tries its sandbox and its runners before it says that it is ready.
patience() { if is_emulated; then echo 300; else echo 60; fi; }

installation() {
    local began took
    step "installation from the tarball"
    put_into_guest "$DIST"/aitbc-miner-*.tar.gz "$KEYS/miner.key" /root/
    guest 'mkdir -p /root/release && tar -xzf /root/aitbc-miner-*.tar.gz -C /root/release --strip-components 1 && rm /root/*.tar.gz'
    expect "a dry run changes nothing" dry_run_is_dry
    # Packages first: how long the mirror takes is nobody's merit.
    if ! guest "$INSTALL --no-start $(install_options)" >"$GUEST/installed" 2>&1; then
        cat "$GUEST/installed"
        die "the installer fails"
    fi
    grep '^\[' "$GUEST/installed"
    same "the service does not run yet" "$(unit_state)" inactive
    began=$SECONDS
    expect "the installer starts the service" guest "$INSTALL"
    took=$((SECONDS - began))
    same "the service" "$(unit_state)" active
    expect "it was up $took s after the packages were there; $(patience) are allowed" test "$took" -le "$(patience)"
    look_around
    expect "a second installation changes nothing" second_time_changes_nothing
    same "so does one by the boot guide's name" "$(guest /root/scripts/aitbc-miner/install_miner.sh | tail -n 1)" \
        "[INFO] AITBC miner installed and started"
    guest "$PLACE_TEST_ALLOWLIST"
    guest systemctl restart aitbc-miner
    expect "the coordinator knows the node" wait_until "$(patience)" "the node to register" knows_node "$(guest hostname)-gpu0"
    job_from_end_to_end
}

INSTALL="AITBC_HEALTH_SECS=300 /root/release/scripts/install_miner.sh"
PLACE_TEST_ALLOWLIST='printf "command: {path: /usr/bin/dash, name: sh}\nargs: [[\"-c\", \"(?s).*\"]]\n" >/etc/aitbc/miner/allowlist.d/sh.yaml; sync'

install_options() {
    echo "--coordinator $GUEST_URL --wallet wallet_demo --key-file /root/miner.key --allow-insecure"
}

unit_state() { guest systemctl is-active aitbc-miner || true; }
main_pid() { guest systemctl show -P MainPID aitbc-miner; }

# All that could have been changed, in one number.
tree_of_guest() {
    guest 'find /etc /opt /usr /root /var/lib -xdev -type f -not -path "/root/.ssh/*" -not -path "/var/lib/aitbc/miner/*" -not -path "/var/lib/systemd/*" -printf "%p %m %u %T@ %s\n" | sort | sha256sum'
}

dry_run_is_dry() {
    local before
    before=$(tree_of_guest)
    guest "$INSTALL --dry-run --with-torch --with-mining $(install_options)" >"$GUEST/dry" 2>&1 || return 1
    grep -q '^\[DRY \] .*useradd' "$GUEST/dry" && [[ $(tree_of_guest) == "$before" ]]
}

second_time_changes_nothing() {
    local before pid
    before=$(tree_of_guest) pid=$(main_pid)
    guest "$INSTALL" >"$GUEST/second" 2>&1 && [[ $(tree_of_guest) == "$before" && $(main_pid) == "$pid" ]]
}

look_around() {
    same "mode and owner of miner.conf" "$(guest stat -c %a,%U /etc/aitbc/miner.conf)" 600,root
    same "mode and owner of the key" "$(guest stat -c %a,%U /etc/aitbc/api_key)" 600,root
    same "mode and owner of the state" "$(guest stat -c %a,%U /var/lib/aitbc/miner)" 700,aitbc-miner
    same "mode and owner of the log" "$(guest stat -c %a,%U /var/log/aitbc-miner.log)" 600,root
    same "who runs it" "$(guest "ps -o user:20= -p $(main_pid)" | xargs)" aitbc-miner
    same "ports that it listens at" "$(guest "ss -Hltnp | grep -c pid=$(main_pid)," || true)" 0
    expect "the log has the boot guide's first line" \
        guest 'grep -q "\[BOOT\] AITBC miner starting (id=$(hostname)-gpu0)" /var/log/aitbc-miner.log'
    expect "the installer says that there is no GPU" \
        guest '/root/release/scripts/install_miner.sh --dry-run | grep -q "\[INFO\] NVIDIA not detected, will run CPU mode"'
    expect "and with a driver that there is one" guest 'mkdir -p /tmp/fake && printf "#!/bin/sh\n" >/tmp/fake/nvidia-smi && chmod +x /tmp/fake/nvidia-smi && PATH=/tmp/fake:$PATH /root/release/scripts/install_miner.sh --dry-run | grep -q "\[INFO\] NVIDIA detected"'
    expect "no key is in the arguments or the environment of the service" \
        guest "! grep -qaF -f /root/miner.key /proc/$(main_pid)/cmdline /proc/$(main_pid)/environ"
    say "systemd-analyze security: $(guest 'systemd-analyze security aitbc-miner 2>/dev/null | tail -n 1' | sed 's/^[^O]*//')"
}

job_from_end_to_end() {
    submit '{"command": "sh", "args": ["-c", "echo from the guest; cat /proc/self/cgroup"]}'
    expect "a job ends" wait_until 120 "the job to end" is_over
    same "a job" "$(job_state)" COMPLETED
    COMPLETED=$((COMPLETED + 1))
    same "its isolation" "$(api client GET "/v1/jobs/$JOB/receipt" | jq -r '[.. | .isolation? // empty] | first')" \
        "bwrap+seccomp+cgroup2+shared-uid"
}
