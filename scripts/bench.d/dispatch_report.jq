# The turns of all contenders, one object each, put together.

def median: sort | .[length / 2 | floor];

# Of each number in some objects that have the same names.
def medians: map(select(.)) | if length == 0 then null else
    (map(keys) | add | unique) as $names | . as $all
    | [$names[] as $name | {($name): ($all | map(.[$name]) | map(select(. != null)) | median)}] | add end;

def ratio($all; $name; $to): if $all[$name] and $all[$to] then
    [$all[$name], $all[$to]] | transpose | map(select(all)) | map(.[0].per_sec / .[1].per_sec) | median
    else null end;

add | . as $all
| with_entries(select(.key | IN("waiting", "steady", "idle", "heartbeats", "held", "crashes") | not)) as $rounds
| {what: "paid jobs per second", $date, $commit,
   command: "scripts/bench dispatch\(if $only == "" then "" else " --only \($only)" end)",
   $profile, $kernel, memory_gib: ($memory_kib / 1048576 | round), load_before: $load, $cores, $postgres,
   $jobs, $jobs_singly, backlog_jobs: $backlog, rounds: ($rounds | map(length) | max),
   per_sec: ($rounds | map_values(map(.per_sec) | median)),
   clients: ($rounds | map_values(.[-1] | .clients // .miners) | with_entries(select(.value))),
   ratio_to_floor: ratio($all; "postgres"; "floor_1"),
   storage_to_same_rows: ratio($all; "storage"; "same_rows"),
   sqlite_to_postgres: ratio($all; "sqlite"; "postgres"),
   backlog_to_none: ratio($all; "backlog"; "postgres"),
   priorities_to_one: ratio($all; "priorities"; "postgres"),
   # The crowd in front is counted among them there.
   per_job: ($rounds | del(.backlog) | map_values(map(.per_job) | medians) | with_entries(select(.value))),
   to_start: ($rounds | map_values(map(.to_start) | medians) | with_entries(select(.value))),
   to_credit: ($rounds | map_values(map(.to_credit) | medians) | with_entries(select(.value))),
   settled_at_once: ($all.storage // [] | map(.settled_at_once) | median),
   waiting: $all.waiting[0], steady: $all.steady[0], idle: $all.idle[0],
   heartbeats: $all.heartbeats[0], held: $all.held[0], crashes: $all.crashes[0], all: $all}
| del(.waiting.credits_each_100_ms, .steady.credits_each_100_ms)
| . as $now
| ([$history[] | select(.profile == $profile and .cores == $cores and .jobs == $jobs)][-1]) as $last
| .against = (if $last then {date: $last.date, commit: $last.commit, per_sec: ($now.per_sec | with_entries(
    select($last.per_sec[.key]) | .value /= $last.per_sec[.key]))} else null end)
