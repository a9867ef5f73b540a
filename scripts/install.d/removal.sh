# shellcheck shell=bash
# What install_miner.sh --uninstall takes away, and what only --purge does. To be sourced.

remove() {
    ! is_package || die "the package aitbc-miner is installed: apt purge aitbc-miner"
    if has_systemd && systemctl -q is-enabled aitbc-miner.service 2>/dev/null; then
        act systemctl -q disable --now aitbc-miner.service
    fi
    drop "$UNIT" "$UNIT.d" /etc/logrotate.d/aitbc-miner "$SYSCTL" /usr/local/bin/miner-node \
        "$GUIDE/install_miner.sh" "$GUIDE/miner.sh" "$HOME_DIR"
    empty_folder "$GUIDE" /root/scripts
    if has_systemd; then
        act systemctl daemon-reload
        act systemctl -q reset-failed aitbc-miner.service 2>/dev/null || true
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
