# shellcheck shell=bash
# `scripts/bench mining`: the hashrate of the node's lanes, and XMRig's.

ALGO=rx/0
THREADS=1,2
XMRIG=
PAGES=thp
ROTATION=all
PARK=
SEED_CHANGE=

# mining_option NAME VALUE
mining_option() {
    case $1 in
        --algo) ALGO=$2 ;;
        --threads) THREADS=$2 ;;
        --xmrig) XMRIG=$2 ;;
        --pages) PAGES=$2 ;;
        --rotation) ROTATION=$2 ;;
    esac
    [[ $ALGO =~ ^(rx/0|gr)$ ]] || die "--algo is rx/0 or gr"
    [[ $THREADS =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || die "--threads are numbers with commas between"
    [[ -z $XMRIG || -x $XMRIG ]] || die "$XMRIG is no program"
    [[ $PAGES =~ ^(thp|huge)$ ]] || die "--pages is thp or huge"
    [[ $ROTATION =~ ^(all|1?[0-9])$ ]] || die "--rotation is a number from 0 to 19, or all"
}

mining() {
    need jq jq taskset util-linux
    need_build_tools
    if [[ -n $SEED_CHANGE ]]; then
        seed_change
        return
    fi
    local program threads options=(--algo "$ALGO" --rounds "$ROUNDS" --pages "$PAGES")
    [[ -z $XMRIG ]] || options+=(--xmrig "$XMRIG")
    [[ $ROTATION == all ]] || options+=(--rotation "$ROTATION")
    [[ -z $PARK ]] || options+=(--park "$PARK")
    program=$(bench_program mining hashrate)
    [[ $PAGES == thp ]] || reserve_pages
    for threads in ${THREADS//,/ }; do
        say "$ALGO, $threads threads" >&2
        "$program" "${options[@]}" --threads "$threads" >>"$DIR/figures.json"
    done
    mining_"${PARK:+park_}"table
}

# Room for two datasets, and for the scratchpads of both sides; what there was before comes back.
reserve_pages() {
    ((EUID == 0)) || die "--pages huge needs root: it reserves 5 GiB"
    at_end sysctl --quiet vm.nr_hugepages="$(sysctl --values vm.nr_hugepages)"
    sysctl --quiet vm.nr_hugepages=2500
}

# What the machine is, and what else it had to do.
machine() {
    jq -n --arg cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
        --arg cores "$(nproc)" --arg kernel "$(uname -r)" --arg load "$(cut -d ' ' -f 2 /proc/loadavg)" \
        '{$cpu, cores: ($cores | tonumber), $kernel, load_at_end: ($load | tonumber)}'
}

# Over the sets, each as often as it occurs, round by round: the ratio of sums, not the mean of ratios.
mining_table() {
    jq -s --argjson machine "$(machine)" --arg pages "$PAGES" '
        def median: sort | .[length / 2 | floor];
        def weighted($sets; $i; $side; $time):
            ($sets | map(.probability * (.rounds[$i][$side] // {})[$time]) | add) / ($sets | map(.probability) | add);
        def figures($sets; $time):
            [range($sets[0].rounds | length) as $i | ["ours", "xmrig"] | map(. as $side |
                if $sets[0].rounds[$i][$side] then weighted($sets; $i; $side; $time) else null end)] |
            {ours: (map(.[0]) | median), xmrig: (map(.[1]) | median),
             ratios: (map(if .[1] then .[0] / .[1] else null end) | sort)} |
            .ratio = (.ratios | median);
        def both($sets): {clock: figures($sets; "clock"), cpu: figures($sets; "cpu")};
        {what: "hashes per second", $machine, $pages,
         runs: map(.weighted = both(.sets) | .sets |= map(.weighted = both([.])))}' \
        "$DIR/figures.json" >"$DIR/report.json"
    jq -r '
        def short: if . then . * 10 | round / 10 else "" end;
        def ratio: if . then . * 1000 | round / 1000 else "" end;
        def row($threads; $what): .weighted | "| \($what) | \($threads) | \(.clock.ours | short) | \(.clock.xmrig | short) | \(.clock.ratio | ratio) | \(.clock.ratios[0] | ratio) to \(.clock.ratios[-1] | ratio) | \(.cpu.ratio | ratio) |";
        "\(.machine.cpu), \(.machine.cores) cores, kernel \(.machine.kernel), load at the end \(.machine.load_at_end); median of \(.runs[0].sets[0].rounds | length) rounds of \(.runs[0].slice_seconds) s, pages \(.pages)",
        (.runs[] | "", "\(.threads) threads, ours \(.ours.version): \(.ours.in_force)",
            (if .xmrig then "\(.threads) threads, \(.xmrig.version): \(.xmrig.in_force)" else empty end)),
        "", "| | threads | ours, H/s | XMRig, H/s | ratio | from, to | ratio by CPU time |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        (.runs[] | .threads as $threads | .algo as $algo |
            (select(.sets | length > 1) | .sets[] | row($threads; "\(.rotation) \(.set)")),
            row($threads; if .sets | length > 1 then "**\($algo), weighted**" else $algo end))' \
        "$DIR/report.json"
    [[ -z $JSON ]] || cp "$DIR/report.json" "$JSON"
}

mining_park_table() {
    jq -s --argjson machine "$(machine)" '{what: "milliseconds until all lanes are parked", $machine, runs: .}' \
        "$DIR/figures.json" >"$DIR/report.json"
    jq -r 'def short: . * 100 | round / 100;
        "\(.machine.cpu), \(.machine.cores) cores, load at the end \(.machine.load_at_end); \(.runs[0].arrivals) arrivals",
        "", "| lanes | median, ms | p90 | p99 | longest |", "| --- | --- | --- | --- | --- |",
        (.runs[] | "| \(.ours.in_force) | \(.median_ms | short) | \(.p90_ms | short) | \(.p99_ms | short) | \(.longest_ms | short) |")' \
        "$DIR/report.json"
    [[ -z $JSON ]] || cp "$DIR/report.json" "$JSON"
}

# What a new seed costs: a cold start, and the minute after a change that was announced.
seed_change() {
    local program threads options=(--rounds "$ROUNDS")
    [[ -z $XMRIG ]] || options+=(--xmrig "$XMRIG")
    program=$(bench_program mining seed_change)
    for threads in ${THREADS//,/ }; do
        "$program" "${options[@]}" --threads "$threads" >>"$DIR/figures.json"
    done
    jq -s --argjson machine "$(machine)" '
        def median: sort | .[length / 2 | floor];
        {what: "cold starts, and changes of the seed", $machine, runs: map(. + {medians:
            ([("ours", "xmrig") as $side | {($side): (.rounds | map(.[$side] // empty) |
                if . == [] then null else . as $all | .[0] | with_entries(.key as $key |
                    .value = ($all | map(.[$key]) | median)) end)}] | add)})}' \
        "$DIR/figures.json" >"$DIR/report.json"
    jq -r 'def short: if . then . * 100 | round / 100 else "" end;
        "\(.machine.cpu), \(.machine.cores) cores, load at the end \(.machine.load_at_end); median of \(.runs[0].rounds | length) rounds",
        "", "| threads | | cold start to the first share, s | before, H/s | hashes of the first minute | of a whole one |",
        "| --- | --- | --- | --- | --- | --- |",
        (.runs[] | .threads as $threads | .medians | to_entries[] | select(.value) |
            "| \($threads) | \(.key) | \(.value.cold_start_s | short) | \(.value.before_hs | short) | \(.value.first_minute_hashes) | \(.value.first_minute_of_full | short) |")' \
        "$DIR/report.json"
    [[ -z $JSON ]] || cp "$DIR/report.json" "$JSON"
}
