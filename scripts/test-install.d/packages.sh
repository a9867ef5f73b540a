# shellcheck shell=bash
# The Debian packages: installed with apt, configured, upgraded, purged. To be sourced.

packages() {
    step "packages"
    put_into_guest "$DIST"/*.deb /root/
    expect "apt installs all three" guest "DEBIAN_FRONTEND=noninteractive apt-get -q -y install /root/aitbc-miner_*.deb /root/aitbc-coordinator_*.deb /root/aitbc_*.deb >/root/apt.log 2>&1"
    same "the miner waits for its configuration" "$(unit_state)" inactive
    same "the coordinator" "$(guest systemctl is-active aitbc-coordinator || true)" active
    same "the coordinator is ready" "$(guest 'curl -s -o /dev/null -w "%{http_code}" http://127.0.0.1:8011/readyz')" 200
    same "who runs it" "$(guest 'ps -o user:20= -C coordinator' | xargs)" aitbc-coordinator
    say "systemd-analyze security: $(guest 'systemd-analyze security aitbc-coordinator 2>/dev/null | tail -n 1' | sed 's/^[^O]*//')"
    same "the mock is off until it is wanted" "$(guest systemctl is-active aitbc-mock-coordinator || true)" inactive
    expect "it starts" guest systemctl start aitbc-mock-coordinator
    expect "the boot guide's last line" guest 'curl -s http://127.0.0.1:8080/v1/wallet/balance | jq -e .balance'
    guest systemctl stop aitbc-mock-coordinator
    expect "the command line works" guest aitbc --version
    expect "a coordinator that is killed comes back" coordinator_comes_back

    guest "sed -i 's|^COORD_URL=.*|COORD_URL=\"$GUEST_URL\"|; s|^WALLET_ADDR=.*|WALLET_ADDR=wallet_demo|; s|^ALLOW_INSECURE=.*|ALLOW_INSECURE=1|; s|^MINER_ID=.*|MINER_ID=\"\$(hostname)-package\"|' /etc/aitbc/miner.conf; install -m 0600 /root/miner.key /etc/aitbc/api_key; $PLACE_TEST_ALLOWLIST; systemctl start aitbc-miner"
    same "the miner, configured" "$(unit_state)" active
    job_from_end_to_end
    package_upgrades
    expect "apt removes it, and puts it back" guest "{ $REMOVE_AND_INSTALL; } >>/root/apt.log 2>&1"
    same "it is as it was" "$(guest 'systemctl is-enabled aitbc-miner; systemctl is-active aitbc-miner' | xargs)" "enabled active"
    expect "apt purges them" guest "DEBIAN_FRONTEND=noninteractive apt-get -q -y purge aitbc-miner aitbc-coordinator aitbc >>/root/apt.log 2>&1"
    guest 'rm -f /root/*.deb /root/miner.key'
    nothing_is_left
}

# One to a program that ends at once, then back to the package before it, with jobs at work.
package_upgrades() {
    broken_package "$HOUSE/broken.deb"
    put_into_guest "$HOUSE/broken.deb" /root/
    guest 'cp /usr/bin/miner-node /root/before'
    job_at_work
    expect "an upgrade to a program that does not work fails" guest "! AITBC_HEALTH_SECS=300 $APT install /root/broken.deb >/root/broken.log 2>&1"
    expect "and says that it was taken back" guest 'grep -q "taken back" /root/broken.log'
    job_in_peace
    same "the miner after it" "$(unit_state)" active
    expect "with the program of before" guest "cmp /proc/$(main_pid)/exe /root/before"
    same "what dpkg says of it" "$(guest "dpkg-query -W -f '\${Version} \${Status}' aitbc-miner" | sed 's/^[^ +]*//')" "+broken install ok half-configured"
    job_at_work
    expect "the package before it is put back" guest "AITBC_HEALTH_SECS=300 $APT --allow-downgrades install /root/aitbc-miner_*.deb >>/root/apt.log 2>&1"
    job_in_peace
    same "the miner, upgraded" "$(unit_state)" active
    same "what dpkg says of it" "$(guest "dpkg-query -W -f '\${Status}' aitbc-miner")" "install ok installed"
    expect "nothing is kept of it" guest 'test ! -e /usr/share/aitbc-miner/previous -a ! -e /usr/share/aitbc-miner/failed'
    guest 'rm /root/before /root/broken.*'
    job_from_end_to_end
}

APT="DEBIAN_FRONTEND=noninteractive apt-get -q -y"

# broken_package FILE: a later version of the miner's.
broken_package() {
    local tree=$HOUSE/broken-package
    rm -rf "$tree"
    dpkg-deb --raw-extract "$DIST"/aitbc-miner_*.deb "$tree"
    # shellcheck disable=SC2016  # it is the other shell's
    printf '#!/bin/sh\ntest "$1" = --version\n' >"$tree/usr/bin/miner-node"
    sed -i 's/^Version: .*/&+broken/' "$tree/DEBIAN/control"
    dpkg-deb --root-owner-group -Zgzip --build "$tree" "$1" >/dev/null
}

# It is drained, so the job that runs ends, on the only attempt that it has.
job_at_work() {
    submit '{"command": "sh", "args": ["-c", "sleep 15; echo in peace"], "max_attempts": 1}'
    expect "a job runs" wait_until 120 "the job to run" is_running
}

job_in_peace() {
    same "the job that ran" "$(job_state)" COMPLETED
    COMPLETED=$((COMPLETED + 1))
}

REMOVE_AND_INSTALL="export DEBIAN_FRONTEND=noninteractive; apt-get -q -y remove aitbc-miner && ! systemctl -q is-active aitbc-miner && apt-get -q -y install /root/aitbc-miner_*.deb"

coordinator_comes_back() {
    guest 'systemctl kill --signal=KILL aitbc-coordinator'
    wait_until 60 "the coordinator" guest 'curl -fs -o /dev/null http://127.0.0.1:8011/readyz'
}
