-- What miners did, a row for each batch of endings, and in the miners' days a second later. A day's row
-- that each batch writes anew has as many former versions as there were batches since the oldest
-- transaction began that is still open, and each write walks over them.
create table miner_work (
    day       integer not null,
    miner_no  bigint[] not null,
    completed integer[] not null,
    failed    integer[] not null,
    busy_us   bigint[] not null
);
