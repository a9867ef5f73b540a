# shellcheck shell=bash
# What the installer does to a machine that is at work, played: plays.sh and package.sh have the plays,
# systemd.sh the systemd that they are played with. To be sourced.

service() {
    local play=$STAGE/play
    mkdir -p "$play/bin"
    # The programs are copies of bash: what the installer asks of the node (`miner-node why`, `ctl`),
    # bash takes for the name of a script.
    cp /bin/bash "$play/old"
    { cat /bin/bash && echo; } >"$play/new"
    cp /bin/false "$play/broken"
    chmod 755 "$play/new"
    # shellcheck disable=SC2016  # the other shell's
    # What it holds: so many jobs. Without the file: no answer.
    printf 'read -r held <%q && echo "{\\"held\\": $held}"\n' "$play/held" >"$play/bin/why"
    printf '[[ -e %q ]] && echo "$*" >>%q\n' "$play/held" "$play/orders" >"$play/bin/ctl"
    mkfifo "$play/fifo"
    printf 'read -r <%q\n' "$play/fifo" >"$play/bin/run"

    act_of "an upgrade beside a job that outlasts the drain" upgrade_beside_a_job
    act_of "an upgrade after starts that failed" upgrade_after_failures
    act_of "an upgrade to a program that is slow to start" upgrade_to_slow
    act_of "one that never ends starting is taken back" upgrade_to_hanging
    act_of "a broken one is taken back, with the unit that was in force" upgrade_to_broken
    act_of "a node that ends while it is drained is drained" drain_of_dying
    act_of "the boot guide's service makes way" over_the_guide
    act_of "an installation that was interrupted is finished by the next" after_an_interruption
    act_of "a new key is taken into use at once" another_key
    act_of "so is a work directory that is no longer elsewhere" another_work_directory
    act_of "nothing new: nothing is started again" nothing_new
    act_of "removal stops what is not enabled, and leaves the owner's drop-ins" removal_of_running
    act_of "removal beside the package leaves the package's" removal_beside_package
    act_of "an upgrade of the package" package_upgrade
    act_of "one to a broken program is taken back, and dpkg is told" package_upgrade_to_broken
    act_of "it is made up for when what was missing is there" package_is_mended
    act_of "with nothing at work there is nothing to take back" package_with_nothing_at_work
    act_of "nor where no service may be started" package_that_may_start_nothing
    act_of "lists of packages that are old are no obstacle" old_lists
    act_of "huge pages that are permitted already stay as they are" permitted_pages
}

# act_of WHAT PLAY: on a stage of its own, and never for long.
act_of() {
    rm -rf "$STAGE/play/root"
    rm -f "$STAGE/play/orders"
    printf '0\n' >"$STAGE/play/held"
    expect "$1" quietly timeout 60 scripts/check_install.d/play "$STAGE/play" "$2"
}
