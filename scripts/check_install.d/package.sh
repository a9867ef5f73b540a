# shellcheck shell=bash
# shellcheck disable=SC2034,SC2317,SC2329  # for dpkg's scripts and their systemd
# What is played of the package: dpkg's scripts, as dpkg calls them for an upgrade. To be sourced, after
# plays.sh.

SHARE=$ROOT_DIR/usr/share/aitbc-miner

# package_is_installed PROGRAM: that program at work, as the package has it.
package_is_installed() {
    PROGRAM=/usr/bin/miner-node UNIT=/usr/lib/systemd/system/aitbc-miner.service
    export DPKG_ROOT=$ROOT_DIR
    mkdir -p "$ROOT_DIR/run/systemd/system" "$ROOT_DIR/var/log" "$SHARE"
    cp "$HERE"/scripts/install.d/{drain,health}.sh "$SHARE"
    is_installed "$1"
}

# Of the machine that this runs on nothing is asked.
getent() { true; }
deb-systemd-invoke() {
    [[ $FORBIDDEN == yes ]] || { end_main && start_main; }
}
FORBIDDEN=no

# dpkg_replaces_by PROGRAM: with another unit, too. Then dpkg_configures.
dpkg_replaces_by() {
    sh "$HERE/scripts/release.d/miner/preinst" upgrade 0.1
    put 0755 "$PLAY/$1" "$PROGRAM"
    put_text 0644 "$UNIT" <<<after
}

# dpkg_configures STATUS: and ends with that.
dpkg_configures() {
    local status
    # In a shell of its own, since it ends; not as a condition, where a command that fails ends nothing.
    set +e
    (
        set -e
        trap 'echo "PID=$PID ACTIVE=$ACTIVE SUB=$SUB RESTARTS=$RESTARTS" >"$PLAY/state"' EXIT
        set -- configure 0.1
        # shellcheck source=/dev/null
        source "$HERE/scripts/release.d/miner/postinst"
    ) >"$PLAY/said" 2>&1
    status=$?
    set -e
    # shellcheck source=/dev/null
    source "$PLAY/state"
    [[ $status == "$1" ]] || die "exit status $status, not $1: $(cat "$PLAY/said")"
}

package_upgrade() {
    package_is_installed old
    dpkg_replaces_by new
    dpkg_configures 0
    runs new
    same "the unit" "$(cat "$ROOT_DIR$UNIT")" after
    is_gone "${SHARE#"$ROOT_DIR"}/previous"
}

package_upgrade_to_broken() {
    package_is_installed old
    : >"$ROOT_DIR/run/aitbc-miner.drained"
    dpkg_replaces_by broken
    dpkg_configures 1
    grep -q "taken back" "$PLAY/said" || die "it said: $(cat "$PLAY/said")"
    runs old
    same "the unit" "$(cat "$ROOT_DIR$UNIT")" before
    last_order resume
    # Whoever asks dpkg once more gets the new program once more, and no word that it works.
    dpkg_configures 1
    runs old
    # Another version ends the matter.
    dpkg_replaces_by new
    dpkg_configures 0
    runs new
    is_gone "${SHARE#"$ROOT_DIR"}/failed"
}

# What was missing for the new program has come.
package_is_mended() {
    package_is_installed old
    dpkg_replaces_by broken
    dpkg_configures 1
    cp "$PLAY/new" "$SHARE/failed/miner-node"
    dpkg_configures 0
    runs new
    is_gone "${SHARE#"$ROOT_DIR"}/failed"
}

package_with_nothing_at_work() {
    package_is_installed old
    end_main
    dpkg_replaces_by broken
    dpkg_configures 0
    cmp "$ROOT_DIR$PROGRAM" "$PLAY/broken"
}

package_that_may_start_nothing() {
    package_is_installed old
    FORBIDDEN=yes
    dpkg_replaces_by new
    dpkg_configures 0
    cmp "$ROOT_DIR$PROGRAM" "$PLAY/new"
}
