# shellcheck shell=bash
# Whether a node that was started works. To be sourced; the Debian package has it, too.

# How long a program may take until it is healthy, in seconds; what systemd still lets it take to start
# is not counted. A machine that is emulated needs more.
HEALTH_SECS=${AITBC_HEALTH_SECS:-60}

# shown PROPERTY: of the service.
shown() { systemctl show -P "$1" aitbc-miner.service; }

# is_at_work PROGRAM: whether the main process is the very program that is installed.
is_at_work() { [[ $(readlink "/proc/$(shown MainPID)/exe") == "$1" ]]; }

# is_soon_healthy PROGRAM: systemd was told so by the program that is installed, and it answers.
is_soon_healthy() {
    local program=$1 deadline=$((SECONDS + HEALTH_SECS))
    while :; do
        if systemctl -q is-active aitbc-miner.service && is_at_work "$program" && "$program" why --json >/dev/null 2>&1; then
            return
        fi
        # It ends as soon as it is started, again and again.
        (($(shown NRestarts) < 5)) || return 1
        # One that still starts is ended by systemd after TimeoutStartSec, and is in another state then.
        ((SECONDS < deadline)) || [[ $(shown SubState) == start ]] || return 1
        sleep 1
    done
}
