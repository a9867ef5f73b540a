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
    expect "it is installed again while it works" guest "DEBIAN_FRONTEND=noninteractive apt-get -q -y reinstall /root/aitbc-miner_*.deb >>/root/apt.log 2>&1"
    same "the miner after it" "$(unit_state)" active
    job_from_end_to_end
    expect "apt removes it, and puts it back" guest "{ $REMOVE_AND_INSTALL; } >>/root/apt.log 2>&1"
    same "it is as it was" "$(guest 'systemctl is-enabled aitbc-miner; systemctl is-active aitbc-miner' | xargs)" "enabled active"
    expect "apt purges them" guest "DEBIAN_FRONTEND=noninteractive apt-get -q -y purge aitbc-miner aitbc-coordinator aitbc >>/root/apt.log 2>&1"
    guest 'rm -f /root/*.deb /root/miner.key'
    nothing_is_left
}

REMOVE_AND_INSTALL="export DEBIAN_FRONTEND=noninteractive; apt-get -q -y remove aitbc-miner && ! systemctl -q is-active aitbc-miner && apt-get -q -y install /root/aitbc-miner_*.deb"

coordinator_comes_back() {
    guest 'systemctl kill --signal=KILL aitbc-coordinator'
    wait_until 60 "the coordinator" guest 'curl -fs -o /dev/null http://127.0.0.1:8011/readyz'
}
