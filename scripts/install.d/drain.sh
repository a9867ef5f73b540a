# shellcheck shell=bash
# How a node that runs is left in peace until its jobs have ended. To be sourced; the Debian package
# has it, too.

# drain_node PROGRAM SECONDS: no job is taken any more, and those that run end, or the time is over.
# A pause ends by itself: if whoever drains dies, the node works again soon.
drain_node() {
    local program=$1 seconds=$2 deadline=$((SECONDS + $2)) answer held
    is_paused "$program" || "$program" ctl pause "$((seconds + 300))s" >/dev/null 2>&1 || return 0
    while ((SECONDS < deadline)); do
        answer=$("$program" why --json 2>/dev/null) || answer=
        if [[ -n $answer ]]; then
            held=$(sed -n 's/.*"held": \([0-9]*\).*/\1/p' <<<"$answer")
            [[ ${held:-0} != 0 ]] || return 0
        elif ! systemctl -q is-active aitbc-miner.service; then
            # It has ended meanwhile. One that lives but does not answer may be at work.
            return 0
        fi
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
