-- Why the last proof of a lease was refused; and the indexes by which an operator's numbers of the
-- last minute, hour and day are counted without looking at all of history.

alter table attempts
    add column refusal_code    text,
    add column refusal_message text,
    add column refused_at      timestamptz;

create index attempts_first on attempts (leased_at) where fence = 1;
create index attempts_failed on attempts (ended_at) where outcome = 'FAILED';
create index jobs_by_end on jobs (finished_at) where finished_at is not null;
-- A client finds its jobs of one workload without walking all of them.
create index jobs_by_workload on jobs (client_id, workload, job_id);
