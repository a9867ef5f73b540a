-- What went through on days that are over, so that metrics of the whole market go on after a restart
-- without counting all jobs again. Written once for each day.
create table metrics_rollup (
    -- Since 1970-01-01, UTC.
    day       integer primary key,
    submitted bigint not null,
    completed bigint not null,
    failed    bigint not null,
    canceled  bigint not null,
    expired   bigint not null,
    -- What receipts stated, in 10^-9 AITBC.
    credited  bigint not null
);
