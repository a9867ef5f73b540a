-- How long a miner was there on a day, in microseconds: from one heartbeat to the next, where it did
-- not count as offline between them. Hours in which it was heard of made a minute of each a whole one.
-- `hours` stays as long as a replica of the version before may write it.
alter table miner_days add column up_us integer not null default 0;
with recursive bits (hour) as (select 0 union all select hour + 1 from bits where hour < 23)
update miner_days set up_us = 3600000000 * (select sum((hours >> hour) & 1) from bits);
