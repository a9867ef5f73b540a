# shellcheck shell=bash
# What install_miner.sh --uninstall takes away, and what only --purge does. To be sourced.

remove() {
    if package_is installed; then
        [[ $PURGE == no ]] || die "the package aitbc-miner is installed: apt purge aitbc-miner"
        [[ -e $ROOT_DIR$UNIT || -e $ROOT_DIR$HOME_DIR ]] || die "the package aitbc-miner is installed: apt remove aitbc-miner"
    fi
    # Also where it is not enabled, and where it is about to be started again.
    if has_systemd && systemctl cat aitbc-miner.service >/dev/null 2>&1; then
        act systemctl -q disable --now aitbc-miner.service
    fi
    drop_link /usr/local/bin/miner-node "$PROGRAM"
    drop_link "$GUIDE/install_miner.sh" "$HOME_DIR/scripts/install_miner.sh"
    drop_link "$GUIDE/miner.sh" "$HOME_DIR/scripts/miner.sh"
    drop "$UNIT" "$WORK_DROPIN" "$TMPFILES" "$SYSCTL" "$HOME_DIR"
    [[ $PURGE == no ]] || drop "$UNIT.d"
    # The package has one under the same name.
    package_is installed || drop /etc/logrotate.d/aitbc-miner
    empty_folder "$UNIT.d" "$GUIDE" /root/scripts
    if has_systemd; then
        act systemctl daemon-reload
        act systemctl -q reset-failed aitbc-miner.service 2>/dev/null || true
    fi
    if package_is installed; then
        ! has_systemd || act systemctl -q enable aitbc-miner.service
        report "AITBC miner of the tarball removed; the package's is there: systemctl start aitbc-miner.service"
        return
    fi
    if [[ $PURGE == no ]]; then
        report "AITBC miner removed; $CONF, $STATE and $LOG are kept: --purge removes them, too"
        return
    fi
    local work
    work=$(configured_work)
    [[ -z $work || $work == "$STATE"* ]] || warn "WORK_DIR $work is outside of $STATE: look at it and remove it yourself"
    drop "$CONF" /etc/aitbc/miner.yaml "$KEY" /etc/aitbc/miner "$STATE" "$LOG"
    local old
    for old in "$ROOT_DIR$LOG".*; do drop "${old#"$ROOT_DIR"}"; done
    # The coordinator may live here, too.
    empty_folder /etc/aitbc /var/lib/aitbc
    if is_live && getent passwd aitbc-miner >/dev/null; then
        act userdel aitbc-miner
    fi
    report "AITBC miner removed, with configuration, state and log"
}

# empty_folder PLACE ...: removes each that has nothing in it.
empty_folder() {
    local place
    for place in "$@"; do
        [[ ! -d $ROOT_DIR$place ]] || act rmdir --ignore-fail-on-non-empty "$ROOT_DIR$place"
    done
}
