-- How long a miner was there on a day, in microseconds: from one heartbeat to the next, where it did
-- not count as offline between them. Hours in which it was heard of made a minute of each a whole one.
-- `hours` stays as long as a replica of the version before may write it.
alter table miner_days add column up_us bigint not null default 0;
update miner_days set up_us = length(replace(hours::bit(24)::text, '0', '')) * 3600000000;
