-- Following jobs, finding them, and where their files are.

-- From which byte on a chunk's text is in no event yet; null: all of it is. What was logged before
-- there were such events is handed out when its job completes.
alter table job_logs add column withheld_from integer default 0;

-- When the last progress was written down as an event.
alter table queue add column progress_at timestamptz;

-- Which replica has somebody who follows a job: the others tell it of new events.
create table followers (
    job_id  uuid not null,
    replica uuid not null,
    until   timestamptz not null,
    primary key (job_id, replica)
);

-- A client's jobs by how they ended, and those that have not; for operators the few that did not
-- complete.
create index jobs_by_outcome on jobs (client_id, outcome, job_id);
create index jobs_not_completed on jobs (outcome, job_id)
    where outcome in ('FAILED', 'CANCELED', 'EXPIRED');
-- What retention still has to clear.
create index jobs_with_tail on jobs (job_id) where logs_tail is not null;
create index inputs_by_age on inputs (created_at);
-- Whether a file that lies in the store is anybody's.
create index artifacts_by_location on artifacts (location);
create index inputs_by_location on inputs (location);

-- Which store has the files: one row. A replica that finds another mark in its own store is not
-- looking at the same files.
create table stores (
    one     boolean primary key check (one),
    mark    text not null,
    made_at timestamptz not null
);
