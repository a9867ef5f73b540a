# shellcheck shell=bash
# shellcheck disable=SC2153,SC2317,SC2329  # of the installer, and called by it
# A systemd that is only played, with one service, and a clock that nobody waits for. To be sourced,
# after what it stands in for.

# What the service is: its main process; ActiveState, SubState and NRestarts; how many seconds its start
# and its end still take.
PID=0 ACTIVE=inactive SUB=dead RESTARTS=0 STARTING=0 ENDING=0
# Set by the plays: how many seconds they take.
START_TAKES=0 END_TAKES=0
# Which state the package of the same name is in.
PACKAGE=

has_systemd() { true; }
package_is() { [[ $PACKAGE == "$1" ]]; }
# What is played is in no danger of a power cut.
sync() { true; }

systemctl() {
    case "$*" in
        "-q is-active aitbc-miner.service") [[ $ACTIVE == active ]] ;;
        "show -P MainPID aitbc-miner.service") echo "$PID" ;;
        "show -P NRestarts aitbc-miner.service") echo "$RESTARTS" ;;
        "show -P SubState aitbc-miner.service") echo "$SUB" ;;
        "stop aitbc-miner.service" | "-q disable --now aitbc-miner.service")
            SECONDS=$((SECONDS + END_TAKES))
            end_main
            ;;
        "start --no-block aitbc-miner.service") start_main ;;
        "restart --no-block aitbc-miner.service") SUB=stop-sigterm ENDING=$END_TAKES && pass 0 ;;
        *"reset-failed aitbc-miner.service") RESTARTS=0 ;;
        "cat aitbc-miner.service") [[ -e $ROOT_DIR$UNIT ]] ;;
        "-q enable aitbc-miner.service" | daemon-reload) ;;
        *) die "the play has no systemctl $*" ;;
    esac
}

end_main() {
    ((PID == 0)) || { kill "$PID" && wait "$PID"; } 2>/dev/null || true
    PID=0 ACTIVE=inactive SUB=dead
}

start_main() {
    local program=$ROOT_DIR$PROGRAM
    if ! "$program" --version >/dev/null 2>&1; then
        ACTIVE=activating SUB=auto-restart RESTARTS=5
        return
    fi
    main_is "$program" run
    ACTIVE=activating SUB=start STARTING=$START_TAKES
    pass 0
}

# main_is PROGRAM ARGUMENT ...: the main process is that program.
main_is() {
    local program look
    program=$(readlink -f "$1")
    "$@" </dev/null >/dev/null 2>&1 &
    PID=$!
    # Until it has begun, it is a copy of this shell.
    for ((look = 0; look < 1000; look++)); do
        [[ $(readlink "/proc/$PID/exe") != "$program" ]] || return 0
        command sleep 0.01
    done
    die "$1 does not begin"
}

# pass SECONDS
pass() {
    case $SUB in
        stop-sigterm)
            (((ENDING -= $1) <= 0)) || return 0
            end_main
            start_main
            ;;
        start)
            if (((STARTING -= $1) <= 0)); then
                ACTIVE=active SUB=running
            elif ((START_TAKES - STARTING > 300)); then
                # TimeoutStartSec=
                end_main
                ACTIVE=activating SUB=auto-restart RESTARTS=1
            fi
            ;;
    esac
}

# Each look is ten seconds after the one before, whatever the installer says: there are fewer then.
sleep() {
    SECONDS=$((SECONDS + 10))
    pass 10
}
