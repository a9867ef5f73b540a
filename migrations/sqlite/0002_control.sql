-- What an operator decides while the coordinator runs, and the record of it; fees, bonuses, payouts;
-- what miners have done. Forward only.

-- One row per version; the newest is in force.
create table controls (
    version    integer primary key,
    body       text not null,
    actor      text not null,
    created_at integer not null
) strict;

create table audit_log (
    audit_no integer primary key autoincrement,
    at       integer not null,
    -- The id of a key; 'local' for the command line.
    actor    text not null,
    action   text not null,
    subject  text not null,
    data     text not null
) strict;
create index audit_log_by_action on audit_log (action, audit_no);

create trigger controls_no_update before update on controls
    begin select raise(abort, 'table controls is append-only'); end;
create trigger controls_no_delete before delete on controls
    begin select raise(abort, 'table controls is append-only'); end;
create trigger audit_log_no_update before update on audit_log
    begin select raise(abort, 'table audit_log is append-only'); end;
create trigger audit_log_no_delete before delete on audit_log
    begin select raise(abort, 'table audit_log is append-only'); end;

-- How many jobs the client submitted on its last day, counted from 1970-01-01 (UTC).
alter table clients add column day integer not null default 0;
alter table clients add column day_jobs integer not null default 0;

-- Fixed at submit, as the unit price is. Jobs that are older have none of them.
alter table jobs add column fee_bp integer not null default 0 check (fee_bp between 0 and 10000);
alter table jobs add column bonus text;
-- The most that paying it can issue.
alter table jobs add column issue_most integer not null default 0 check (issue_most >= 0);
create index jobs_live on jobs (client_id, issue_most) where outcome is null;

-- What the operator kept of the price and added to it, and the metric that the bonus is for.
alter table receipts add column fee integer not null default 0 check (fee >= 0);
alter table receipts add column bonus integer not null default 0 check (bonus >= 0);
alter table receipts add column measured integer;

-- The balance when the day (UTC) of updated_at began.
alter table accounts add column day_opening integer not null default 0;
update accounts set day_opening = balance - coalesce((
    select sum(e.amount) from entries e join transfers t on t.transfer_id = e.transfer_id
    where e.account_id = accounts.account_id
      and t.created_at >= accounts.updated_at - accounts.updated_at % 86400000000), 0);

-- A check cannot be altered: the table is made again. What refers to its rows is held against them
-- at the commit, when they are all back.
pragma defer_foreign_keys = on;
create table transfers_before (
    transfer_id text primary key,
    kind        text not null,
    job_id      text,
    receipt_id  text,
    reference   text,
    created_at  integer not null
) strict;
insert into transfers_before
    select transfer_id, kind, job_id, receipt_id, reference, created_at from transfers;
drop table transfers;
create table transfers (
    transfer_id text primary key,
    kind        text not null check (kind in ('hold', 'credit', 'release', 'deposit', 'payout')),
    job_id      text,
    receipt_id  text,
    reference   text,
    created_at  integer not null
) strict;
insert into transfers (transfer_id, kind, job_id, receipt_id, reference, created_at)
    select transfer_id, kind, job_id, receipt_id, reference, created_at from transfers_before;
drop table transfers_before;
-- A job is credited once, held once, released once, whatever the code above believes.
create unique index transfers_once_per_job on transfers (job_id, kind) where job_id is not null;
create unique index transfers_by_reference on transfers (reference) where reference is not null;
create trigger transfers_no_update before update on transfers
    begin select raise(abort, 'table transfers is append-only'); end;
create trigger transfers_no_delete before delete on transfers
    begin select raise(abort, 'table transfers is append-only'); end;

-- What each miner did on each day, counted from 1970-01-01 (UTC).
create table miner_days (
    miner_no  integer not null,
    day       integer not null,
    -- A bit for each hour in which it was heard of.
    hours     integer not null default 0,
    completed integer not null default 0,
    failed    integer not null default 0,
    -- From lease to accepted proof, in microseconds.
    busy_us   integer not null default 0,
    primary key (miner_no, day)
) strict;
insert into miner_days (miner_no, day, completed, failed, busy_us)
select miner_no, ended_at / 86400000000,
       count(*) filter (where outcome = 'COMPLETED'), count(*) filter (where outcome = 'FAILED'),
       coalesce(sum(ended_at - leased_at) filter (where outcome = 'COMPLETED'), 0)
from attempts where outcome in ('COMPLETED', 'FAILED') and ended_at is not null
group by 1, 2;
