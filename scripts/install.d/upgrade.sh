# shellcheck shell=bash
# How install_miner.sh starts the service, and puts a new program in place of one that is at work: what
# runs may end first, and a program that does not become healthy goes again. To be sourced.

# How long a program may take until it is healthy, in seconds. A machine that is emulated needs more.
HEALTH_SECS=${AITBC_HEALTH_SECS:-60}

# shellcheck source=scripts/install.d/drain.sh
source "$HERE/scripts/install.d/drain.sh"

start_or_upgrade() {
    # shellcheck disable=SC2153  # it is in files.sh
    local old=$ROOT_DIR$PROGRAM
    if [[ $NEW -ef $old ]] || cmp -s "$NEW" "$old"; then
        start_service
        return
    fi
    if [[ -x $old ]] && has_systemd && systemctl -q is-active aitbc-miner; then
        upgrade
        return
    fi
    put 0755 "$NEW" "$PROGRAM"
    start_service
}

start_service() {
    if ! has_systemd; then
        ! is_live || info "systemd does not run here: run miner-node run, or boot with systemd"
        return 0
    fi
    act systemctl -q enable aitbc-miner.service
    if [[ $DRY == no ]] && ! is_configured; then
        info "put address, wallet and key into $CONF, then: systemctl start aitbc-miner.service"
        return
    fi
    [[ $START == yes ]] || return 0
    if ! systemctl -q is-active aitbc-miner; then
        act systemctl start --no-block aitbc-miner.service
        [[ $DRY == yes ]] || is_soon_healthy || die "the miner does not get healthy: see
    systemctl status aitbc-miner; tail $LOG; miner-node doctor"
    fi
    report "AITBC miner installed and started"
}

upgrade() {
    local kept=$PROGRAM.previous
    info "upgrading: waiting for jobs to end, $DRAIN s at most"
    act drain_node "$PROGRAM" "$DRAIN"
    act cp -pf "$PROGRAM" "$kept"
    put 0755 "$NEW" "$PROGRAM"
    act systemctl restart --no-block aitbc-miner.service
    [[ $DRY == no ]] || return 0
    if is_soon_healthy; then
        undrain_node "$PROGRAM"
        report "AITBC miner upgraded to $("$PROGRAM" --version)"
        return
    fi
    warn "the new program does not get healthy ($HEALTH_SECS s at most): going back to the one before"
    mv -f "$kept" "$PROGRAM"
    [[ ! -e $UNIT_BEFORE ]] || put 0644 "$UNIT_BEFORE" "$UNIT"
    systemctl daemon-reload
    systemctl reset-failed aitbc-miner.service || true
    systemctl restart --no-block aitbc-miner.service
    is_soon_healthy || die "the program before it does not get healthy, either: see
    systemctl status aitbc-miner; tail $LOG; miner-node doctor"
    undrain_node "$PROGRAM"
    die "the upgrade failed and was taken back; the miner works as before"
}

# Healthy: systemd was told so by the very program that is installed, and it answers.
is_soon_healthy() {
    local deadline=$((SECONDS + HEALTH_SECS)) pid
    while ((SECONDS < deadline)); do
        pid=$(systemctl show -P MainPID aitbc-miner)
        if systemctl -q is-active aitbc-miner &&
            [[ $(readlink "/proc/$pid/exe") == "$PROGRAM" ]] &&
            "$PROGRAM" why --json >/dev/null 2>&1; then
            return
        fi
        # It ends as soon as it is started, again and again.
        (($(systemctl show -P NRestarts aitbc-miner) < 5)) || return 1
        sleep 1
    done
    return 1
}
