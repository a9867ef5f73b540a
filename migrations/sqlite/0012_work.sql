-- What miners did, a row for each batch of endings, and in the miners' days a second later.
create table miner_work (
    day  integer not null,
    work text not null
);
