-- The shares of clients, of processors and of GPUs apart; and what canceled jobs give back.

-- last_rank is that of jobs for processors from now on.
alter table clients add column last_gpu_rank integer not null default 0;
update clients set last_gpu_rank = last_rank;
-- What the client's jobs since the last of each kind cost that were canceled before anybody had
-- them, as far as others still stand behind them.
alter table clients add column forgone_rank integer not null default 0;
alter table clients add column forgone_gpu_rank integer not null default 0;

-- What a job took of its client's share, and where the client stood after it. Jobs that are older
-- give nothing back.
alter table jobs add column slot text not null default 'cpu' check (slot in ('cpu', 'gpu'));
alter table jobs add column rank_cost integer not null default 0;
alter table jobs add column reserved_rank integer not null default 0;
create index jobs_live_ranks on jobs (client_id, slot, reserved_rank) where outcome is null;
