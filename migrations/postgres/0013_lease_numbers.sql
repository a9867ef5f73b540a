-- Leases are numbered, so that a look at what a miner holds can begin behind those that are over: of
-- these the index keeps an entry until it is cleaned up, which nobody can do as long as any older
-- transaction is open. Replicas of the version before number none: a miner that they gave a job, and
-- that asks others, too, may be given more than it runs at once until that job is over.
create sequence lease_numbers;
alter table queue add column lease_no bigint not null default 0;
drop index queue_held;
create index queue_held on queue (miner_no, lease_no) where state in ('ASSIGNED', 'RUNNING');
