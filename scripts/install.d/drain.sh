# shellcheck shell=bash
# How a node that runs is left in peace until its jobs have ended. To be sourced; the Debian package
# has it, too.

# drain_node PROGRAM SECONDS: no job is taken any more, and those that run end, or the time is over.
# A pause ends by itself: if whoever drains dies, the node works again soon.
drain_node() {
    local program=$1 seconds=$2 deadline=$((SECONDS + $2)) held
    is_paused "$program" || "$program" ctl pause "$((seconds + 300))s" >/dev/null 2>&1 || return 0
    while ((SECONDS < deadline)); do
        held=$("$program" why --json 2>/dev/null | sed -n 's/.*"held": \([0-9]*\).*/\1/p')
        [[ ${held:-0} != 0 ]] || return 0
        sleep 1
    done
    echo "[WARN] jobs still run after $seconds s: they get shutdown.grace_s, then they go back"
}

# A pause of the owner's stays.
PAUSED_BY_OWNER=no
is_paused() {
    local until
    until=$("$1" ctl --json get snooze_until 2>/dev/null | tr -dc 0-9)
    ((${until:-0} > $(date +%s))) && PAUSED_BY_OWNER=yes
}

undrain_node() {
    [[ $PAUSED_BY_OWNER == yes ]] || "$1" ctl resume >/dev/null 2>&1 || true
}
