#!/usr/bin/env bash
# Installs, upgrades or removes the AITBC miner: program, user, directories, configuration, service.
# As root, on Debian 12 or 13, from a release tarball or a checkout. Running it again changes nothing
# that is in order already, and never the configuration.
#
#   install_miner.sh [OPTION ...]
#
#   --coordinator URL   the coordinator's address, for a configuration that is not there yet
#   --wallet WALLET     the wallet that is credited, likewise
#   --key-file FILE     a file with the API key; it is copied to /etc/aitbc/api_key
#   --allow-insecure    permit http:// to another machine: the key can be read on the way
#   --binary FILE       install this miner-node; default: the tarball's, or what the checkout has built
#   --with-torch[=cpu|cu124]  a Python environment with torch in /opt/aitbc-miner/.venv; without =,
#                       cu124 where there is an NVIDIA GPU; torch comes from PyTorch's own index
#   --with-mining       permit huge pages for mining, now and at each boot
#   --drain SECONDS     how long jobs may take to end before an upgrade (default 600)
#   --no-start          enable the service, but do not start it
#   --uninstall         remove everything but configuration, state and log
#   --purge             with --uninstall: these and the user, too
#   --root DIR          install below DIR: no packages, no user, no service is touched
#   --dry-run           say what would be done, and do nothing
#   --help

set -euo pipefail
# Whatever root's own is: the service has to read what is put there for it.
umask 022

HERE=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
# What useradd and others are in, which an ordinary root's shell may lack.
PATH=$PATH:/usr/sbin:/sbin

ROOT_DIR=
DRY=no
COORDINATOR=
WALLET=
KEY_FILE=
INSECURE=no
BINARY=
TORCH=no
MINING=ask
DRAIN=600
START=yes
UNINSTALL=no
PURGE=no

# shellcheck source=scripts/install.d/acts.sh
source "$HERE/scripts/install.d/acts.sh"
# shellcheck source=scripts/install.d/files.sh
source "$HERE/scripts/install.d/files.sh"
# shellcheck source=scripts/install.d/system.sh
source "$HERE/scripts/install.d/system.sh"
# shellcheck source=scripts/install.d/upgrade.sh
source "$HERE/scripts/install.d/upgrade.sh"
# shellcheck source=scripts/install.d/removal.sh
source "$HERE/scripts/install.d/removal.sh"

main() {
    options "$@"
    as_root_or_staged
    if [[ $UNINSTALL == yes ]]; then
        remove
        return
    fi
    # The package's unit would be hidden by ours, and its upgrades come to nothing.
    ! package_is installed || die "the package aitbc-miner is installed: use apt, or remove it first"
    ! package_is config-files || warn "the package aitbc-miner was removed, but not purged"
    NEW=$(find_binary)
    install_packages
    say_gpu
    make_user
    place_files
    place_configuration
    place_service
    set_up_mining
    set_up_torch
    start_or_upgrade
}

options() {
    while (($#)); do
        case $1 in
            --coordinator) COORDINATOR=$(value "$@") && shift ;;
            --wallet) WALLET=$(value "$@") && shift ;;
            --key-file) KEY_FILE=$(value "$@") && shift ;;
            --allow-insecure) INSECURE=yes ;;
            --binary) BINARY=$(value "$@") && shift ;;
            --with-torch) TORCH=auto ;;
            --with-torch=cpu | --with-torch=cu124) TORCH=${1#*=} ;;
            --with-mining) MINING=yes ;;
            --drain) DRAIN=$(value "$@") && shift ;;
            --no-start) START=no ;;
            --uninstall) UNINSTALL=yes ;;
            --purge) PURGE=yes ;;
            --root) ROOT_DIR=$(value "$@") && shift ;;
            --dry-run) DRY=yes ;;
            -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 0 ;;
            *) die "unknown option $1, see --help" ;;
        esac
        shift
    done
    [[ $PURGE == no || $UNINSTALL == yes ]] || die "--purge goes with --uninstall"
    [[ $DRAIN =~ ^[0-9]{1,6}$ ]] || die "--drain takes seconds, not $DRAIN"
    [[ $COORDINATOR =~ ^(https?://[^[:space:]\"\'\$\`\\]+)?$ ]] || die "no address: $COORDINATOR"
    [[ $WALLET =~ ^[A-Za-z0-9._:@-]*$ ]] || die "no wallet: $WALLET"
    [[ -z $KEY_FILE || -s $KEY_FILE ]] || die "$KEY_FILE is not there, or empty"
    ROOT_DIR=${ROOT_DIR%/}
}

value() {
    (($# > 1)) || die "$1 needs a value"
    printf '%s\n' "$2"
}

main "$@"
