# shellcheck shell=bash
# What install_miner.sh needs of the machine: packages, GPU, user, huge pages, torch. To be sourced.

# What the node runs jobs with (bubblewrap, python3), checks certificates with, and what its owner
# wants at hand. The boot guide's git, pciutils, lsb-release, coreutils and pip are not used.
PACKAGES=(bubblewrap ca-certificates curl jq logrotate procps python3)

# package_is STATE: installed, config-files (removed, not purged), as dpkg says.
package_is() {
    is_live && [[ $(dpkg-query -W -f '${db:Status-Status}' aitbc-miner 2>/dev/null) == "$1" ]]
}

install_packages() {
    local missing=() package
    [[ $TORCH == no ]] || PACKAGES+=(python3-venv)
    is_live || return 0
    command -v dpkg-query >/dev/null || die "this is no Debian"
    for package in "${PACKAGES[@]}"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    info "installing packages: ${missing[*]}"
    # Whatever a fresh machine is at with apt may end first; old lists may be good enough.
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    act "${apt[@]}" update || warn "the lists of packages could not be brought up to date"
    act "${apt[@]}" -y --no-install-recommends install "${missing[@]}"
}

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; }

say_gpu() {
    if has_gpu; then
        info "NVIDIA detected"
    else
        info "NVIDIA not detected, will run CPU mode if configured"
    fi
}

make_user() {
    is_live || return 0
    getent passwd aitbc-miner >/dev/null ||
        act useradd --system --user-group --home-dir "$STATE" --no-create-home \
            --shell /usr/sbin/nologin --comment 'AITBC miner' aitbc-miner
    # The device files of AMD's and Intel's GPUs belong to these groups.
    local group
    for group in render video; do
        if compgen -G '/dev/dri/renderD*' >/dev/null && getent group "$group" >/dev/null &&
            ! id -nG aitbc-miner 2>/dev/null | grep -qw "$group"; then
            act usermod -aG "$group" aitbc-miner
        fi
    done
}

SYSCTL=/etc/sysctl.d/60-aitbc-miner.conf
# RandomX: 2080 MiB of dataset and 256 MiB of cache, twice where the next seed is prepared, and 64 MiB
# of scratchpads, in pages of 2 MiB. The node asks for as much: SURPLUS_BYTES.
HUGE_PAGES=$(((2 * (2080 + 256) + 64) / 2))
PERMITTED=/proc/sys/vm/nr_overcommit_hugepages

# Never without being asked: by the option, or by an answer at a terminal.
set_up_mining() {
    local answer
    if [[ $MINING == ask && -t 0 && -t 1 && $DRY == no && ! -e $ROOT_DIR$SYSCTL ]] && is_live; then
        read -r -p "Permit 4.6 GiB of huge pages, for mining? They are taken while it mines. [y/N] " answer
        [[ ${answer,,} != y* ]] || MINING=yes
    fi
    [[ $MINING == yes ]] || return 0
    # More than that is the owner's own setting.
    if is_live && [[ ! -e $ROOT_DIR$SYSCTL ]] && are_permitted; then
        report "as many huge pages are permitted already"
        return
    fi
    put_text 0644 "$SYSCTL" <<-CONF
		# Huge pages that the kernel may put together for the miner's \`mining.pages: surplus\`. Nothing is
		# reserved by it.
		vm.nr_overcommit_hugepages = $HUGE_PAGES
	CONF
    if is_live && ! are_permitted; then
        act sysctl -q -p "$ROOT_DIR$SYSCTL" || warn "huge pages cannot be permitted now; at the next boot they are"
    fi
    report "huge pages are permitted; set mining.enabled, mining.pools and mining.pages: surplus in /etc/aitbc/miner.yaml"
}

are_permitted() { (($(cat "$PERMITTED" 2>/dev/null || echo 0) >= HUGE_PAGES)); }

# For Python jobs of the owner's. Best effort: nothing else depends on it.
set_up_torch() {
    [[ $TORCH != no ]] || return 0
    local venv=$HOME_DIR/.venv kind=$TORCH
    [[ $kind != auto ]] || { kind=cpu && ! has_gpu || kind=cu124; }
    if ! is_live; then
        info "torch ($kind) is left out below --root"
        return
    fi
    # In an environment of its own: Debian's Python refuses packages beside its own (PEP 668).
    if act python3 -m venv "$venv" &&
        act "$venv/bin/pip" --quiet --disable-pip-version-check install \
            --index-url "${AITBC_TORCH_INDEX:-https://download.pytorch.org/whl}/$kind" torch; then
        report "torch installed"
    else
        warn "torch install skipped: see above; all but Python jobs that use it work without"
    fi
}
