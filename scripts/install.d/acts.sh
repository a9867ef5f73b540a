# shellcheck shell=bash
# How install_miner.sh speaks and acts: everything that changes something goes through here, so that
# --dry-run and --root hold everywhere. To be sourced.

info() { printf '[INFO] %s\n' "$*"; }
# What has been done, where it has.
report() { [[ $DRY == yes ]] || info "$@"; }
warn() { printf '[WARN] %s\n' "$*" >&2; }
die() {
    printf 'install_miner.sh: %s\n' "$*" >&2
    exit 1
}

# act COMMAND ...: does it, or says that it would.
act() {
    if [[ $DRY == yes ]]; then
        printf '[DRY ] %s\n' "$*"
    else
        "$@"
    fi
}

# Whether this machine itself is worked on, not a directory.
is_live() { [[ -z $ROOT_DIR ]]; }

has_systemd() { is_live && [[ -d /run/systemd/system ]]; }

as_root_or_staged() {
    is_live || [[ -d $ROOT_DIR || $DRY == yes ]] || die "$ROOT_DIR is no directory"
    [[ $DRY == yes || $EUID == 0 ]] || ! is_live || die "run it as root, or with --dry-run"
}

# put MODE FILE PLACE: a file of that mode, written whole or not at all, and only where it differs.
# Sets CHANGED to yes where it did.
export CHANGED=no
# Whether a service that is at work already has to be started again for what was changed.
export RESTART=no
put() {
    local mode=$1 file=$2 place=$ROOT_DIR$3
    if [[ ! -L $place ]] && cmp -s "$file" "$place" && [[ $(stat -c %a "$place") == "${mode#0}" ]]; then
        return
    fi
    CHANGED=yes
    if [[ $DRY == yes ]]; then
        printf '[DRY ] %s, mode %s\n' "$place" "$mode"
    elif [[ $file -ef $place ]]; then
        chmod "$mode" "$place"
    else
        folder 0755 "$(dirname "$3")"
        install -m "$mode" "$file" "$place.new"
        # A power cut right after the installation must not leave an empty key.
        sync "$place.new"
        mv -f "$place.new" "$place"
    fi
}

# put_text MODE PLACE: the same, of what comes on standard input.
put_text() {
    local draft
    draft=$(mktemp)
    cat >"$draft"
    put "$1" "$draft" "$2"
    rm -f "$draft"
}

# folder MODE PLACE: makes it where it is not there; what is there keeps its mode.
folder() {
    [[ -d $ROOT_DIR$2 ]] || act install -d -m "$1" "$ROOT_DIR$2"
}

# link PLACE TARGET: what the owner has under that name is kept beside it.
link() {
    local place=$ROOT_DIR$1
    [[ $(readlink "$place") != "$2" ]] || return 0
    folder 0755 "$(dirname "$1")"
    if [[ -e $place || -L $place ]]; then
        warn "$place was there: it is $place.before now"
        act mv --backup=numbered -T "$place" "$place.before"
    fi
    act ln -sn "$2" "$place"
}

# drop PLACE ...: removes files, links and whole directories of ours. Sets CHANGED to yes where there
# were any.
drop() {
    local place
    for place in "$@"; do
        [[ -e $ROOT_DIR$place || -L $ROOT_DIR$place ]] || continue
        CHANGED=yes
        act rm -rf --one-file-system "$ROOT_DIR${place:?}"
    done
}

# drop_link PLACE TARGET: only where it is the link that we have made.
drop_link() { [[ $(readlink "$ROOT_DIR$1") != "$2" ]] || drop "$1"; }
