-- As on PostgreSQL, where the claim is not to use it.
drop index queue_lapsing;
create index queue_lapsing on queue (expires_at) where coalesce(state, '') in ('QUEUED', 'DELAYED');
