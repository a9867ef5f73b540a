# shellcheck shell=bash
# How install_miner.sh starts the service, and puts a new program in place of one that is at work: what
# runs may end first, and a program that does not become healthy goes again. To be sourced.

# shellcheck source=scripts/install.d/drain.sh
source "$HERE/scripts/install.d/drain.sh"
# shellcheck source=scripts/install.d/health.sh
source "$HERE/scripts/install.d/health.sh"

start_or_upgrade() {
    # shellcheck disable=SC2153  # it is in files.sh
    if ! is_in_place && [[ -x $ROOT_DIR$PROGRAM ]] && has_systemd && systemctl -q is-active aitbc-miner.service; then
        upgrade
        return
    fi
    is_in_place || put 0755 "$NEW" "$PROGRAM"
    start_service
}

start_service() {
    local was_active=no
    if ! has_systemd; then
        ! is_live || info "systemd does not run here: run miner-node run, or boot with systemd"
        return 0
    fi
    act systemctl -q enable aitbc-miner.service
    if [[ $DRY == no ]] && ! is_configured; then
        info "put address, wallet and key into $CONF, then: systemctl restart aitbc-miner.service"
        return
    fi
    ! systemctl -q is-active aitbc-miner.service || was_active=yes
    # At work may also be what the boot guide has installed, or a program that was replaced since.
    if [[ $was_active == no || $RESTART == yes ]] || ! is_at_work "$ROOT_DIR$PROGRAM"; then
        if [[ $START == no ]]; then
            [[ $was_active == no ]] ||
                warn "what runs knows nothing of this yet: systemctl restart aitbc-miner.service"
            return 0
        fi
        [[ $was_active == no ]] || wait_for_jobs
        start_again
        [[ $DRY == yes ]] || is_soon_healthy "$ROOT_DIR$PROGRAM" || die "the miner does not get healthy: see
    systemctl status aitbc-miner; tail $LOG; miner-node doctor"
        [[ $DRY == yes || $was_active == no ]] || undrain_node "$ROOT_DIR$PROGRAM"
    fi
    report "AITBC miner installed and started"
}

wait_for_jobs() {
    info "waiting for jobs to end, $DRAIN s at most"
    act drain_node "$ROOT_DIR$PROGRAM" "$DRAIN"
}

# The end is waited for: jobs that still run get their grace, and it is not the new program's time.
start_again() {
    act systemctl stop aitbc-miner.service || warn "what runs does not end as it should"
    # Starts that failed before are not the new program's either. It may not be loaded at all.
    act systemctl reset-failed aitbc-miner.service 2>/dev/null || true
    act systemctl start --no-block aitbc-miner.service
}

upgrade() {
    local program=$ROOT_DIR$PROGRAM
    wait_for_jobs
    act cp -pf "$program" "$program.previous"
    put 0755 "$NEW" "$PROGRAM"
    start_again
    [[ $DRY == no ]] || return 0
    if is_soon_healthy "$program"; then
        undrain_node "$ROOT_DIR$PROGRAM"
        report "AITBC miner upgraded to $("$program" --version)"
        return
    fi
    warn "the new program does not get healthy ($HEALTH_SECS s at most): going back to the one before"
    mv -f "$program.previous" "$program"
    [[ ! -e $ROOT_DIR$UNIT_BEFORE ]] || put 0644 "$ROOT_DIR$UNIT_BEFORE" "$UNIT"
    systemctl daemon-reload
    start_again
    is_soon_healthy "$ROOT_DIR$PROGRAM" || die "the program before it does not get healthy, either: see
    systemctl status aitbc-miner; tail $LOG; miner-node doctor"
    undrain_node "$ROOT_DIR$PROGRAM"
    die "the upgrade failed and was taken back; the miner works as before"
}
