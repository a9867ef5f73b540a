# shellcheck shell=bash
# What is in the tarball and in the package of each product. To be sourced.

name_of() {
    case $1 in
        cli) echo aitbc ;;
        *) echo "aitbc-$1" ;;
    esac
}

# program NAME PLACE: without what only debuggers read.
program() {
    install -D -m 0755 "$BIN/$1" "$2"
    strip --strip-debug "$2"
}

# copy DIR FILE ...: under the same names, with modes that are no accident of a checkout.
copy() {
    local into=$1 file mode
    shift
    for file in "$@"; do
        if [[ -x $file ]]; then mode=0755; else mode=0644; fi
        install -D -m "$mode" "$file" "$into/$file"
    done
}

papers() { copy "$1" LICENSE-APACHE LICENSE-MIT CHANGELOG.md README.md; }

tree_of_miner() {
    local tarball=$1/tarball deb=$1/deb file
    local share=$deb/usr/share/aitbc-miner
    program miner-node "$tarball/bin/miner-node"
    papers "$tarball"
    mapfile -t files < <(find scripts/install_miner.sh scripts/miner.sh scripts/install.d etc/miner \
        etc/miner.conf etc/miner.yaml etc/systemd/aitbc-miner.service etc/logrotate.d/aitbc-miner -type f)
    copy "$tarball" "${files[@]}" docs/install.md
    install -D -m 0755 "$tarball/bin/miner-node" "$deb/usr/bin/miner-node"
    install -D -m 0644 etc/systemd/aitbc-miner.service "$deb/usr/lib/systemd/system/aitbc-miner.service"
    install -D -m 0644 etc/logrotate.d/aitbc-miner "$deb/etc/logrotate.d/aitbc-miner"
    for file in etc/miner/allowlist.d/*.yaml; do
        install -D -m 0644 "$file" "$deb/etc/aitbc/miner/allowlist.d/$(basename "$file")"
    done
    for file in etc/miner.conf etc/miner.yaml scripts/install.d/{drain,health}.sh \
        etc/miner/tasks/word_count.py; do
        install -D -m 0644 "$file" "$share/$(basename "$file")"
    done
    install -D -m 0644 LICENSE-MIT "$deb/usr/share/doc/aitbc-miner/copyright"
}

tree_of_coordinator() {
    local tarball=$1/tarball deb=$1/deb name
    for name in coordinator mock-coordinator; do
        program "$name" "$tarball/bin/$name"
        install -D -m 0755 "$tarball/bin/$name" "$deb/usr/bin/$name"
        install -D -m 0644 "etc/systemd/aitbc-$name.service" "$deb/usr/lib/systemd/system/aitbc-$name.service"
    done
    papers "$tarball"
    copy "$tarball" etc/coordinator.yaml etc/mock.yaml etc/systemd/aitbc-coordinator.service \
        etc/systemd/aitbc-mock-coordinator.service docs/operate.md
    install -D -m 0644 etc/coordinator.yaml "$deb/etc/aitbc/coordinator.yaml"
    install -D -m 0644 etc/mock.yaml "$deb/usr/share/aitbc-coordinator/mock.yaml"
    install -D -m 0644 LICENSE-MIT "$deb/usr/share/doc/aitbc-coordinator/copyright"
}

tree_of_cli() {
    local tarball=$1/tarball deb=$1/deb
    program aitbc "$tarball/bin/aitbc"
    papers "$tarball"
    copy "$tarball" etc/aitbc.yaml docs/cli.md
    install -D -m 0755 "$tarball/bin/aitbc" "$deb/usr/bin/aitbc"
    install -D -m 0644 etc/aitbc.yaml "$deb/usr/share/aitbc/aitbc.yaml"
    install -D -m 0644 LICENSE-MIT "$deb/usr/share/doc/aitbc/copyright"
}
