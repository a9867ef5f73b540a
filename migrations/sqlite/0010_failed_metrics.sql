-- What the attempt that failed last used, as its node measured it.
alter table jobs add column error_metrics text;
