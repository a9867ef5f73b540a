# shellcheck shell=bash
# Disk images of real Debian systems: the distribution's own kernel, systemd, nothing installed that
# install_miner.sh should bring. To be sourced, after machine.sh.

# What every Debian server has, and what the tests look with. Not bubblewrap, curl, jq, logrotate,
# python3: the installer has to fetch those.
IMAGE_PACKAGES=systemd-sysv,dbus,udev,kmod,procps,e2fsprogs,initramfs-tools,linux-image-cloud-amd64
IMAGE_PACKAGES+=,openssh-server,ca-certificates,iproute2,passwd

# A week's updates are no reason to build them again.
IMAGE_DAYS=7

# make_image SUITE: sets IMAGE, a folder with disk.raw, vmlinuz and initrd.img.
make_image() {
    local suite=$1 work tree
    IMAGE=$CACHE/$suite
    [[ -z $(find "$IMAGE/disk.raw" -mtime "-$IMAGE_DAYS" 2>/dev/null) ]] || return 0
    ((EUID == 0)) || die "making an image needs root"
    need mmdebstrap mmdebstrap mke2fs e2fsprogs \
        /usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
    say "making an image of $suite"
    mkdir -p "$CACHE"
    work=$(mktemp -d "$CACHE/$suite.XXXXXX")
    at_end rm -rf --one-file-system "$work"
    chmod 755 "$work"
    tree=$work/tree
    # virtio_blk and ext4 are all that the initrd has to know; a small one boots sooner where the
    # processor is emulated. Expired lists: a mirror may stand still.
    # shellcheck disable=SC2016  # $1 is mmdebstrap's
    sources "$suite" | mmdebstrap --quiet --mode=root --variant=minbase --include="$IMAGE_PACKAGES" \
        --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --essential-hook='install -d "$1/etc/initramfs-tools/conf.d"' \
        --essential-hook='echo MODULES=list >"$1/etc/initramfs-tools/conf.d/small"' \
        --essential-hook='printf "virtio_pci\nvirtio_blk\next4\n" >"$1/etc/initramfs-tools/modules"' \
        --customize-hook='chroot "$1" systemctl enable systemd-networkd' \
        "$suite" "$tree" -
    # The node's name comes of it, and a name belongs to one signing key.
    echo "rig-$suite" >"$tree/etc/hostname"
    printf '127.0.0.1 localhost rig-%s\n' "$suite" >"$tree/etc/hosts"
    # qemu's own forwarder.
    rm -f "$tree/etc/resolv.conf"
    echo 'nameserver 10.0.2.3' >"$tree/etc/resolv.conf"
    echo '/dev/vda / ext4 errors=remount-ro 0 1' >"$tree/etc/fstab"
    printf '[Match]\nType=ether\n\n[Network]\nDHCP=ipv4\n' >"$tree/etc/systemd/network/10-guest.network"
    install -d -m 0700 "$tree/root/.ssh"
    [[ -e $CACHE/key ]] || ssh-keygen -q -t ed25519 -N '' -C test-install -f "$CACHE/key"
    install -m 0600 "$CACHE/key.pub" "$tree/root/.ssh/authorized_keys"
    cp -L "$tree/vmlinuz" "$tree/initrd.img" "$work/"
    mke2fs -q -t ext4 -d "$tree" "$work/disk.raw" 6G
    rm -rf --one-file-system "$tree" "$IMAGE"
    mv "$work" "$IMAGE"
}

# The mirrors that this machine's own apt uses, for SUITE; Debian's, where it uses none.
sources() {
    local suite=$1 own found
    # shellcheck source=/dev/null
    own=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
    # shellcheck disable=SC2016  # apt's own names
    found=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
        awk -v own="$own" -v suite="$suite" '$3 == "main" && $2 ~ "^" own "(-updates|-security)?$" {
            sub("^" own, suite, $2); print "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]", $1, $2, "main" }' |
        sort -u)
    if [[ -n $found ]]; then
        printf '%s\n' "$found"
    else
        printf 'deb http://deb.debian.org/debian %s main\n' "$suite" "$suite-updates"
        printf 'deb http://deb.debian.org/debian-security %s-security main\n' "$suite"
    fi
}
