# What a fleet saw of two crashes: $killed and $died are their moments, $back is when PostgreSQL was back,
# in milliseconds since 1970.

# Credits per second in the tenths of a second from number $from to before number $to.
def rate($from; $to): (.[$from:$to] | add // 0) * 10 / ($to - $from);

# From a crash to the first credit after the longest pause that begins within three seconds of it,
# and until a whole second goes by at 90 % of the rate before it.
def recovery($all; $at):
    ($all | rate($at - 50; $at)) as $before
    | [range($at; [$at + 30, ($all | length)] | min) | select($all[.] == 0)] as $still
    | {before_per_sec: $before,
       to_first_credit_ms: (if $still == [] then 0
           else ([range($still[0]; $all | length) | select($all[.] > 0)][0] - $at) * 100 end),
       to_90_percent_ms: ([range($at; ($all | length) - 10)
           | select(. as $n | $all | rate($n; $n + 10) >= 0.9 * $before)][0] | if . then (. - $at) * 100 else null end)};

(.begun_at | sub("\\.(?<f>[0-9]+)Z$"; "Z") | fromdateiso8601) as $secs
| (.begun_at | capture("\\.(?<f>[0-9]+)Z$").f // "" | (. + "000")[0:3] | tonumber) as $ms
| ($secs * 1000 + $ms) as $begun
| .credits_each_100_ms as $all
| {jobs: .submitted, credited, failures, longest_pause_ms,
   replica_killed: recovery($all; ($killed - $begun) / 100 | floor),
   postgres_died: (recovery($all; ($died - $begun) / 100 | floor) + {postgres_back_ms: ($back - $died)})}
