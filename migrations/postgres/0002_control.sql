-- What an operator decides while the coordinator runs, and the record of it; fees, bonuses, payouts;
-- what miners have done. Forward only.

-- One row per version; the newest is in force.
create table controls (
    version    bigint primary key,
    body       jsonb not null,
    actor      text not null,
    created_at timestamptz not null
);

create table audit_log (
    audit_no bigint generated always as identity primary key,
    at       timestamptz not null,
    -- The id of a key; 'local' for the command line.
    actor    text not null,
    action   text not null,
    subject  text not null,
    data     jsonb not null
);
create index audit_log_by_action on audit_log (action, audit_no);

create trigger append_only before update or delete or truncate on controls
    for each statement execute function refuse_change();
create trigger append_only before update or delete or truncate on audit_log
    for each statement execute function refuse_change();

-- How many jobs the client submitted on its last day, counted from 1970-01-01 (UTC).
alter table clients add column day integer not null default 0;
alter table clients add column day_jobs integer not null default 0;

-- Fixed at submit, as the unit price is. Jobs that are older have none of them.
alter table jobs add column fee_bp smallint not null default 0 check (fee_bp between 0 and 10000);
alter table jobs add column bonus jsonb;
-- The most that paying it can issue.
alter table jobs add column issue_most bigint not null default 0 check (issue_most >= 0);
create index jobs_live on jobs (client_id, issue_most) where outcome is null;

-- What the operator kept of the price and added to it, and the metric that the bonus is for.
alter table receipts add column fee bigint not null default 0 check (fee >= 0);
alter table receipts add column bonus bigint not null default 0 check (bonus >= 0);
alter table receipts add column measured bigint;

-- The balance when the day (UTC) of updated_at began.
alter table accounts add column day_opening bigint not null default 0;
update accounts a set day_opening = a.balance - coalesce((
    select sum(e.amount) from entries e join transfers t on t.transfer_id = e.transfer_id
    where e.account_id = a.account_id
      and t.created_at >= date_trunc('day', a.updated_at at time zone 'UTC') at time zone 'UTC'), 0);

alter table transfers drop constraint transfers_kind_check;
alter table transfers add constraint transfers_kind_check
    check (kind in ('hold', 'credit', 'release', 'deposit', 'payout'));

-- What each miner did on each day, counted from 1970-01-01 (UTC).
create table miner_days (
    miner_no  bigint not null,
    day       integer not null,
    -- A bit for each hour in which it was heard of.
    hours     integer not null default 0,
    completed integer not null default 0,
    failed    integer not null default 0,
    -- From lease to accepted proof, in microseconds.
    busy_us   bigint not null default 0,
    primary key (miner_no, day)
);
insert into miner_days (miner_no, day, completed, failed, busy_us)
select miner_no, floor(extract(epoch from ended_at) / 86400)::integer,
       count(*) filter (where outcome = 'COMPLETED'), count(*) filter (where outcome = 'FAILED'),
       coalesce(sum((extract(epoch from ended_at - leased_at) * 1000000)::bigint)
                filter (where outcome = 'COMPLETED'), 0)
from attempts where outcome in ('COMPLETED', 'FAILED') and ended_at is not null
group by 1, 2;
