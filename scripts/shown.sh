# shellcheck shell=bash
# What docs/operate.md shows, taken from it, so that what is tried is what it says. Places and ports are
# those of the run; nothing else is changed. To be sourced, after programs.sh.

OPERATE=docs/operate.md

# shown TEXT: the block of code that has TEXT in it.
shown() {
    awk -v text="$1" '
        /^```/ {
            if (inside && has_it) { printf "%s", block; seen = 1; exit }
            inside = !inside; block = ""; has_it = 0
            next
        }
        inside { block = block $0 "\n"; if (index($0, text)) has_it = 1 }
        END { exit !seen }
    ' "$OPERATE" || die "$OPERATE shows nothing with: $1"
}

# database_as_shown DIR: the role and its database, made in the PostgreSQL that was started, by the
# document's own commands. Sets DATABASE_AS_SHOWN, its URL.
database_as_shown() {
    local dir=$1 text
    mkdir -p "$dir"
    text=$(shown 'create role aitbc' | sed "s#/etc/aitbc/#$dir/#g; s#@127.0.0.1/#@$POSTGRES_HOST:$POSTGRES_PORT/#")
    stand_ins_and "$text"
    DATABASE_AS_SHOWN=$(cat "$dir/database_url")
    export DATABASE_AS_SHOWN
}

# stand_ins_and TEXT: runs it; what would be of the machine is of the run. Ends the script where a
# command fails, unless it is part of a condition: there bash does not see it.
# shellcheck disable=SC2317,SC2329  # called by the text
stand_ins_and() {
    local status
    set +e
    (
        set -e
        apt() { :; }
        systemctl() {
            case $1 in
                stop) stop_postgres ;;
                *) postgres_ctl "$1" ;;
            esac
        }
        # Its programs, as its superuser: -u postgres -- PROGRAM ...
        runuser() {
            local program=$4 password=${POSTGRES_URL#*//postgres:}
            shift 4
            PGHOST=$POSTGRES_HOST PGPORT=$POSTGRES_PORT PGUSER=postgres PGPASSWORD=${password%%@*} \
                as_postgres "$POSTGRES_BIN/$program" "$@"
        }
        eval "$1"
    )
    status=$?
    set -e
    ((status == 0)) || die "what $OPERATE shows does not work: $1"
}
