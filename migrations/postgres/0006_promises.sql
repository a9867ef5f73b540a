-- What live jobs may still issue: kept, so that nobody adds up all of them for a daily cap.

-- Only added to, so that nobody waits for another's sum; now and then one row takes the place of
-- many. The sum of all is what jobs without an outcome have as issue_most.
create table promises (
    amount bigint not null
);
insert into promises (amount)
    select cast(sum(issue_most) as bigint) from jobs where outcome is null having count(*) > 0;

-- jobs_live_ranks finds a client's live jobs, too.
drop index jobs_live;
