# shellcheck shell=bash
# Counts what a script has seen to hold, and says so in the words of `cargo test`, so that one sum
# covers everything. To be sourced.

PASSED=0
FAILED=0

# expect WHAT COMMAND ...: COMMAND must succeed.
expect() {
    local what=$1
    shift
    if "$@"; then
        printf 'ok    %s\n' "$what"
        PASSED=$((PASSED + 1))
    else
        printf 'WRONG %s\n' "$what"
        FAILED=$((FAILED + 1))
    fi
}

# quietly COMMAND ...: says something only where it fails.
quietly() {
    local said
    said=$("$@" 2>&1) && return
    printf '%s\n' "$said"
    return 1
}

# same WHAT SEEN WANTED
same() {
    expect "$1: $3" test "$2" = "$3" || true
    [[ $2 == "$3" ]] || printf '      but it is %s\n' "$2"
}

# The last line; fails if anything was wrong.
conclude() {
    local word=ok
    ((FAILED == 0)) || word=FAILED
    printf 'test result: %s. %d passed; %d failed\n' "$word" "$PASSED" "$FAILED"
    ((FAILED == 0 && PASSED > 0))
}
