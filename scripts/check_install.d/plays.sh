# shellcheck shell=bash
# shellcheck disable=SC2034,SC2317,SC2329  # for the installer and its systemd
# What is played: each function is one story, and fails with the first thing that is not as it should
# be. To be sourced, after systemd.sh.

# is_installed PROGRAM: that program at work, under a unit of an earlier time.
is_installed() {
    put 0755 "$PLAY/$1" "$PROGRAM"
    put_text 0644 "$UNIT" <<<before
    start_main
}

# installs PROGRAM: as main of install_miner.sh has it, for what concerns the service.
installs() {
    NEW=$PLAY/$1 RESTART=no
    place_configuration
    place_service
    start_or_upgrade
    runs "$1"
}

# runs PROGRAM: the main process is what is installed, and that is PROGRAM.
runs() {
    same "the service" "$ACTIVE" active
    cmp "$ROOT_DIR$PROGRAM" "$PLAY/$1"
    same "its process" "$(readlink "/proc/$PID/exe")" "$ROOT_DIR$PROGRAM"
}

# fails_to_install PROGRAM WORDS: it says so, and the old program and its unit are back.
fails_to_install() {
    local status
    # In a shell of its own, since it ends; not as a condition, where a command that fails ends nothing.
    set +e
    (
        set -e
        trap 'echo "PID=$PID ACTIVE=$ACTIVE SUB=$SUB" >"$PLAY/state"' EXIT
        installs "$1"
    ) >"$PLAY/said" 2>&1
    status=$?
    set -e
    # shellcheck source=/dev/null
    source "$PLAY/state"
    same "exit status" "$status" 1
    grep "$2" "$PLAY/said" || die "it said: $(cat "$PLAY/said")"
    cmp "$ROOT_DIR$PROGRAM" "$PLAY/old"
    same "the unit" "$(cat "$ROOT_DIR$UNIT")" before
}

# same WHAT SEEN WANTED
same() { [[ $2 == "$3" ]] || die "$1: $2, not $3"; }
last_order() { same "the last order" "$(tail -n 1 "$PLAY/orders")" "$1"; }
is_gone() { [[ ! -e $ROOT_DIR$1 ]] || die "$1 is still there"; }
is_there() { [[ -e $ROOT_DIR$1 ]] || die "$1 is gone"; }

upgrade_beside_a_job() {
    END_TAKES=62
    is_installed old
    echo 1 >"$PLAY/held"
    installs new
    last_order resume
}

upgrade_after_failures() {
    is_installed old
    RESTARTS=7 START_TAKES=20
    installs new
}

upgrade_to_slow() {
    is_installed old
    START_TAKES=200
    installs new
    last_order resume
}

upgrade_to_hanging() {
    is_installed old
    START_TAKES=1000
    # In this play the old one takes as long, so both are given up.
    fails_to_install new "does not get healthy, either"
}

upgrade_to_broken() {
    is_installed old
    # Of an upgrade long ago.
    put_text 0644 "$UNIT_BEFORE" <<<"long ago"
    fails_to_install broken "taken back"
    runs old
    last_order resume
}

# It takes the pause, says nothing any more, and then ends.
drain_of_dying() {
    local looks=0
    is_installed old
    echo 1 >"$PLAY/held"
    sleep() {
        rm -f "$PLAY/held"
        ((++looks < 3)) || end_main
    }
    drain_node "$ROOT_DIR$PROGRAM" 600
    same "looks until it had ended" "$looks" 3
}

over_the_guide() {
    put_text 0644 "$UNIT" <<<"the guide's"
    main_is /bin/bash "$PLAY/bin/run"
    ACTIVE=active SUB=running
    installs new
}

# It has put the program in place, and no more.
after_an_interruption() {
    is_installed old
    installs old
    put 0755 "$PLAY/new" "$PROGRAM"
    installs new
}

another_key() {
    local before
    is_installed old
    installs old
    before=$PID KEY_FILE=$PLAY/key
    echo k2.secret >"$KEY_FILE"
    installs old
    [[ $PID != "$before" ]] || die "it still has the old key"
}

another_work_directory() {
    local before
    is_installed old
    echo 'WORK_DIR=/data/work' >>"$ROOT_DIR$CONF"
    installs old
    is_there "$WORK_DROPIN"
    before=$PID
    sed -i '/^WORK_DIR/d' "$ROOT_DIR$CONF"
    installs old
    is_gone "$WORK_DROPIN"
    [[ $PID != "$before" ]] || die "it may still write there"
}

nothing_new() {
    local before
    is_installed old
    installs old
    before=$PID
    installs old
    same "the process" "$PID" "$before"
}

removal_of_running() {
    is_installed old
    put_text 0644 "$UNIT.d/owner.conf" <<<"[Service]"
    remove
    same "the main process" "$PID" 0
    is_there "$UNIT.d/owner.conf"
    is_there "$CONF"
    is_gone "$UNIT"
    PURGE=yes
    remove
    is_gone "$UNIT.d"
    is_gone "$CONF"
}

removal_beside_package() {
    is_installed old
    put_text 0644 /etc/logrotate.d/aitbc-miner <<<"the package's"
    PACKAGE=installed
    remove
    same "the main process" "$PID" 0
    is_gone "$UNIT"
    is_gone "$PROGRAM"
    is_there /etc/logrotate.d/aitbc-miner
    is_there "$CONF"
}

# On this machine itself, as far as these programs can see.
as_live() { is_live() { true; }; }

old_lists() {
    local debian=$PLAY/debian
    as_live
    mkdir "$debian"
    printf '#!/bin/sh\nexit 1\n' >"$debian/dpkg-query"
    # shellcheck disable=SC2016  # it is the other shell's
    printf '#!/bin/sh\necho "$*" >>%q\ncase "$*" in *update) exit 100 ;; esac\n' "$debian/asked" >"$debian/apt-get"
    chmod 755 "$debian"/*
    PATH=$debian:$PATH
    install_packages
    same "calls that wait for others" "$(grep -c 'DPkg::Lock::Timeout=' "$debian/asked")" 2
    grep -q 'install bubblewrap' "$debian/asked" || die "nothing was installed"
}

permitted_pages() {
    as_live
    sysctl() { echo "$*" >"$PLAY/sysctl"; }
    MINING=yes PERMITTED=$PLAY/permitted
    echo "$HUGE_PAGES" >"$PERMITTED"
    set_up_mining
    is_gone "$SYSCTL"
    echo "$((HUGE_PAGES - 1))" >"$PERMITTED"
    set_up_mining
    is_there "$SYSCTL"
    [[ -e $PLAY/sysctl ]] || die "they are not permitted at once"
}
