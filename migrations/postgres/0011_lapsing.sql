-- The claim asks for queued jobs in the order of their rank. An index of jobs that wait has them,
-- too, and where PostgreSQL last counted few, it would read all of them and sort. By this condition
-- only who looks for jobs that waited too long can use it.
drop index queue_lapsing;
create index queue_lapsing on queue (expires_at) where coalesce(state, '') in ('QUEUED', 'DELAYED');
