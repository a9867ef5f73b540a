# shellcheck shell=bash
# Which files install_miner.sh puts where. To be sourced.
#
# /opt/aitbc-miner has the form of the release tarball, so that the installer in it can be run again
# when the tarball is gone.

HOME_DIR=/opt/aitbc-miner
PROGRAM=$HOME_DIR/bin/miner-node
CONF=/etc/aitbc/miner.conf
KEY=/etc/aitbc/api_key
ALLOWLIST=/etc/aitbc/miner/allowlist.d
LOG=/var/log/aitbc-miner.log
STATE=/var/lib/aitbc/miner
UNIT_BEFORE=$HOME_DIR/etc/systemd/aitbc-miner.service.previous
UNIT=/etc/systemd/system/aitbc-miner.service
WORK_DROPIN=$UNIT.d/work-dir.conf
TMPFILES=/etc/tmpfiles.d/aitbc-miner.conf
# Where the boot guide has its scripts.
GUIDE=/root/scripts/aitbc-miner

# The program to install.
find_binary() {
    local found
    for found in "$BINARY" "$HERE/bin/miner-node" "$HERE/target/release/miner-node"; do
        [[ -n $found && ( -x $found || $found == "$BINARY" ) ]] || continue
        "$found" --version >/dev/null 2>&1 || die "$found does not run on this machine"
        printf '%s\n' "$found"
        return
    done
    die "no miner-node here: use a release tarball, --binary, or build it as an ordinary user with
    cargo build --release --locked -p miner-node"
}

place_files() {
    local file mode
    while read -r file; do
        if [[ -x $HERE/$file ]]; then mode=0755; else mode=0644; fi
        put "$mode" "$HERE/$file" "$HOME_DIR/$file"
    done < <(cd "$HERE" && find scripts/install_miner.sh scripts/miner.sh scripts/install.d \
        etc/miner etc/miner.conf etc/miner.yaml etc/systemd/aitbc-miner.service \
        etc/logrotate.d/aitbc-miner -type f | sort)
    link /usr/local/bin/miner-node "$PROGRAM"
    link "$GUIDE/install_miner.sh" "$HOME_DIR/scripts/install_miner.sh"
    link "$GUIDE/miner.sh" "$HOME_DIR/scripts/miner.sh"
}

# Nothing of the owner's is ever overwritten.
place_configuration() {
    folder 0755 /etc/aitbc
    folder 0755 /etc/aitbc/miner
    if [[ ! -d $ROOT_DIR$ALLOWLIST ]]; then
        local sample
        # Only with the first installation: a sample that the owner has removed stays away.
        for sample in "$HERE"/etc/miner/allowlist.d/*.yaml; do
            put 0644 "$sample" "$ALLOWLIST/$(basename "$sample")"
        done
    fi
    if [[ -e $ROOT_DIR$CONF ]]; then
        [[ -z $COORDINATOR$WALLET ]] ||
            warn "$CONF is there and stays as it is: write COORD_URL and WALLET_ADDR into it"
        [[ $(stat -c %a "$ROOT_DIR$CONF") == 600 ]] || act chmod 0600 "$ROOT_DIR$CONF"
    else
        first_conf | put_text 0600 "$CONF"
        report "Wrote $CONF"
    fi
    CHANGED=no
    [[ -z $KEY_FILE ]] || put 0600 "$KEY_FILE" "$KEY"
    [[ $CHANGED == no ]] || RESTART=yes
    if [[ ! -e $ROOT_DIR$LOG ]]; then
        folder 0755 /var/log
        put_text 0600 "$LOG" </dev/null
    fi
}

first_conf() {
    local edits=()
    # What the values may hold was checked with the options.
    [[ -z $COORDINATOR ]] || edits+=(-e "s|^COORD_URL=\"[^\"]*\"|COORD_URL=\"${COORDINATOR//&/\\&}\"|")
    [[ -z $WALLET ]] || edits+=(-e "s|^WALLET_ADDR=\"[^\"]*\"|WALLET_ADDR=\"$WALLET\"|")
    [[ -z $KEY_FILE ]] || edits+=(-e 's|^API_KEY=|#&|' -e 's|^#\(API_KEY_FILE=\)|\1|')
    [[ $INSECURE == no ]] || edits+=(-e 's|^ALLOW_INSECURE=0|ALLOW_INSECURE=1|')
    sed "${edits[@]}" -e '' "$HERE/etc/miner.conf"
}

# Whether somebody has put an address and a key into the configuration.
is_configured() {
    ! grep -qE '^(COORD_URL|WALLET_ADDR|API_KEY)=.*(coordinator\.example\.net|REPLACE_|CHANGE_ME)' "$ROOT_DIR$CONF" ||
        { [[ -s $ROOT_DIR$KEY ]] && ! grep -qE '^(COORD_URL|WALLET_ADDR)=.*(example\.net|REPLACE_)' "$ROOT_DIR$CONF"; }
}

# Whether the program that is installed, if any, is the one to install.
is_in_place() {
    [[ $NEW -ef $ROOT_DIR$PROGRAM ]] || cmp -s "$NEW" "$ROOT_DIR$PROGRAM"
}

place_service() {
    # For the way back, see upgrade.sh: the unit that is in force with the program before.
    if [[ -e $ROOT_DIR$UNIT ]] && ! is_in_place; then
        put 0644 "$ROOT_DIR$UNIT" "$UNIT_BEFORE"
    fi
    put 0644 "$HERE/etc/logrotate.d/aitbc-miner" /etc/logrotate.d/aitbc-miner
    CHANGED=no
    put 0644 "$HERE/etc/systemd/aitbc-miner.service" "$UNIT"
    work_directory
    [[ $CHANGED == yes ]] || return 0
    export RESTART=yes
    ! has_systemd || act systemctl daemon-reload
}

# What WORK_DIR in miner.conf says, if it is plain.
configured_work() {
    local work
    [[ -e $ROOT_DIR$CONF ]] || return 0
    work=$(sed -nE 's/^WORK_DIR=["'\'']?(\/[A-Za-z0-9._/-]+)["'\'']?[[:space:]]*(#.*)?$/\1/p' "$ROOT_DIR$CONF" | tail -n 1)
    [[ -z $work ]] || realpath -ms "$work"
}

# The service may write into its state directory only; a WORK_DIR elsewhere (the boot guide's is below
# /tmp) has to be opened for it.
work_directory() {
    local work kind
    work=$(configured_work)
    kind=$(kind_of_work "$work")
    [[ $kind == volatile ]] || drop "$TMPFILES"
    case $kind in
        own) ;;
        shared) warn "WORK_DIR $work is no directory of the miner's alone: take one below it, or $STATE" ;;
        hidden) warn "WORK_DIR $work is hidden from the service (ProtectHome=): take another, such as $STATE" ;;
        *)
            # A service with a /tmp of its own would lose it at each stop.
            put_text 0644 "$WORK_DROPIN" <<-CONF
				[Service]
				ReadWritePaths=-$work
				$([[ $kind != volatile ]] || echo PrivateTmp=no)
			CONF
            "make_${kind}_work" "$work"
            return
            ;;
    esac
    drop "$WORK_DROPIN"
}

kind_of_work() {
    case $1 in
        "" | "$STATE" | "$STATE"/*) echo own ;;
        / | /tmp | /var/tmp | /etc | /usr | /var | /var/lib | /opt | /run | /srv | /mnt | /media) echo shared ;;
        /boot | /boot/* | /dev | /dev/* | /proc | /proc/* | /sys | /sys/*) echo shared ;;
        /home | /home/* | /root | /root/* | /run/user | /run/user/*) echo hidden ;;
        /tmp/* | "/var/tmp"/*) echo volatile ;;
        *) echo lasting ;;
    esac
}

# Made again at each boot, before the service, and kept from what clears /tmp of old files.
make_volatile_work() {
    put_text 0644 "$TMPFILES" <<<"d $1 0700 aitbc-miner aitbc-miner -"
    [[ $1 != /tmp/* ]] || warn "WORK_DIR $1 does not outlive a reboot, nor does the signing key in it: better $STATE"
    if has_systemd; then
        act systemd-tmpfiles --create "$TMPFILES" || warn "$1 cannot be made for the service"
    elif is_live; then
        make_lasting_work "$1"
    fi
}

# What is there already, with something in it, may be somebody else's, too.
make_lasting_work() {
    is_live || return 0
    if [[ ! -e $1 || -n $(find "$1" -maxdepth 0 -type d -user root -empty) ]]; then
        act install -d -m 0700 -o aitbc-miner -g aitbc-miner "$1"
    elif [[ $(stat -c %U "$1") != aitbc-miner ]]; then
        warn "WORK_DIR $1 is not aitbc-miner's: chown -R aitbc-miner: $1"
    fi
}
