# shellcheck shell=bash
# One virtual machine: booted, looked into, cut off, ended. To be sourced, after machine.sh.
#
# The guest reaches 127.0.0.1 of this machine as 10.0.2.2.

GUEST=
GUEST_PORT=
GUEST_PID=
GUEST_SSH=()

need_guest_tools() {
    need qemu-system-x86_64 qemu-system-x86 qemu-img qemu-utils ssh openssh-client
}

# KVM runs a Debian kernel only where the processor offers virtualisation itself; elsewhere /dev/kvm
# may be there and be of no use.
accelerator() {
    if [[ -w /dev/kvm ]] && grep -qwE 'vmx|svm' /proc/cpuinfo; then echo kvm; else echo tcg; fi
}

is_emulated() { [[ $(accelerator) == tcg ]]; }

# new_guest DIR IMAGE: a disk of its own on top of the image's.
new_guest() {
    GUEST=$1
    mkdir -p "$GUEST"
    qemu-img create -q -f qcow2 -F raw -b "$2/disk.raw" "$GUEST/disk.qcow2"
    cp "$2/vmlinuz" "$2/initrd.img" "$GUEST/"
    at_end power_off
}

# boot: starts it and waits until it has started all its services.
boot() {
    local cpu=host accelerator
    accelerator=$(accelerator)
    # la57 costs the emulation time; its VAES computes wrongly (seen with qemu 7.2), which GhostRider notices.
    [[ $accelerator == kvm ]] || { cpu=max,la57=off,vaes=off accelerator=tcg,thread=multi; }
    GUEST_PORT=$(free_port)
    qemu-system-x86_64 -name aitbc-test-install -accel "$accelerator" -cpu "$cpu" -smp 2 -m 2048 \
        -nodefaults -display none -no-user-config -serial "file:$GUEST/console.log" \
        -kernel "$GUEST/vmlinuz" -initrd "$GUEST/initrd.img" \
        -append 'root=/dev/vda rw console=ttyS0 quiet' \
        -drive "file=$GUEST/disk.qcow2,if=virtio,discard=unmap" -device virtio-rng-pci \
        -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$GUEST_PORT-:22" \
        -device virtio-net-pci,netdev=net,romfile= >"$GUEST/qemu.log" 2>&1 &
    GUEST_PID=$!
    # One connection for all commands: under emulation each new one takes a second.
    GUEST_SSH=(-i "$CACHE/key" -p "$GUEST_PORT" -o StrictHostKeyChecking=no -o LogLevel=ERROR
        -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o ConnectTimeout=10 -o IdentitiesOnly=yes
        -o ControlMaster=auto -o ControlPersist=yes -o "ControlPath=$GUEST/ssh" root@127.0.0.1)
    wait_until 300 "the guest to boot" is_up || die "the guest does not boot: $(tail -n 5 "$GUEST/console.log")"
    is_up_after=$(guest cat /proc/sys/kernel/random/boot_id)
}

# The boot that it was seen in.
is_up_after=

is_up() {
    local id
    kill -0 "$GUEST_PID" 2>/dev/null || die "qemu has ended: $(cat "$GUEST/qemu.log")"
    id=$(timeout 20 ssh "${GUEST_SSH[@]}" cat /proc/sys/kernel/random/boot_id </dev/null 2>/dev/null) || return 1
    [[ $id != "$is_up_after" ]] || return 1
    # A unit that has failed, such as one that emulation was too slow for, is no reason to wait.
    timeout 240 ssh "${GUEST_SSH[@]}" systemctl is-system-running --wait >/dev/null </dev/null || true
}

# guest COMMAND ...: as root, in the guest; one text, as a shell there reads it.
# shellcheck disable=SC2029  # they are for the guest, as they are here
guest() { ssh "${GUEST_SSH[@]}" "$*" </dev/null; }

# put_into_guest FILE ... PLACE
put_into_guest() {
    local place=${!#}
    scp -q -r "${GUEST_SSH[@]:0:2}" -P "$GUEST_PORT" -o "ControlPath=$GUEST/ssh" -o BatchMode=yes \
        "${@:1:$#-1}" "root@127.0.0.1:$place"
}

# text_into_guest PLACE: what comes on standard input.
# shellcheck disable=SC2029  # the place is known here
text_into_guest() { ssh "${GUEST_SSH[@]}" "cat >$1"; }

reboot_guest() {
    guest systemctl reboot >/dev/null 2>&1 || true
    close_ssh
    wait_until 300 "the guest to boot again" is_up || die "the guest does not come back: $(tail -n 5 "$GUEST/console.log")"
    is_up_after=$(guest cat /proc/sys/kernel/random/boot_id)
}

close_ssh() {
    [[ ! -S $GUEST/ssh ]] || ssh -o "ControlPath=$GUEST/ssh" -O exit root@127.0.0.1 2>/dev/null || true
    rm -f "$GUEST/ssh"
}

# As when the plug is pulled; what the guest had not flushed is lost.
power_off() {
    close_ssh
    [[ -n $GUEST_PID ]] || return 0
    kill -KILL "$GUEST_PID" 2>/dev/null || true
    wait "$GUEST_PID" 2>/dev/null || true
    GUEST_PID=
}
