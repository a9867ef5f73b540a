# shellcheck shell=bash
# A network of our own: places, each with an address and nothing but a cable to the hub, where the
# script itself runs and passes on what the places send to each other. To be sourced, inside of
# `unshare --net --mount`: what is made here is gone with the last process.

declare -A ADDRESS=()

need_network_tools() { need ip iproute2 nsenter util-linux unshare util-linux; }

make_hub() {
    # `ip netns` keeps its names there: ours are nobody else's business.
    mkdir -p /run/netns
    mount -t tmpfs none /run/netns
    ip link set lo up
    echo 1 >/proc/sys/net/ipv4/ip_forward
}

# place NAME: one more place. Its address is in ADDRESS.
place() {
    local name=$1 n=$((${#ADDRESS[@]} + 1))
    ADDRESS[$name]=10.77.$n.2
    ip netns add "$name"
    ip link add "hub$n" type veth peer name eth0 netns "$name"
    ip address add "10.77.$n.1/30" dev "hub$n"
    ip link set "hub$n" up
    ip -netns "$name" address add "10.77.$n.2/30" dev eth0
    ip -netns "$name" link set lo up
    ip -netns "$name" link set eth0 up
    ip -netns "$name" route add default via "10.77.$n.1"
}

# at NAME COMMAND ...: what the command starts, it starts there.
at() {
    local INSIDE=(nsenter "--net=/run/netns/$1" -- "${INSIDE[@]}")
    shift
    "$@"
}

# sever A B: from now on what they send each other disappears, without a word to either.
sever() { reach add "$@"; }

mend() { reach del "$@"; }

reach() {
    local a=${ADDRESS[$2]} b=${ADDRESS[$3]}
    ip rule "$1" from "$a" to "$b" blackhole
    ip rule "$1" from "$b" to "$a" blackhole
}
