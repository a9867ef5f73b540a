-- The books are checked a statement at a time.

-- That an entry names a transfer and an account, and a receipt a transfer, was looked up row by row,
-- with a lock on each row that was found. What is named is never deleted, so that no lock is needed,
-- and all rows of a statement are looked up at once.
create function refuse_entries_of_nothing() returns trigger language plpgsql as $$
begin
    -- One look each: both in one would read all transfers.
    if exists (
        select from added a
        where not exists (select from transfers t where t.transfer_id = a.transfer_id)
    ) then
        raise exception 'an entry names no transfer' using errcode = 'foreign_key_violation';
    end if;
    if exists (
        select from added a
        where not exists (select from accounts c where c.account_id = a.account_id)
    ) then
        raise exception 'an entry names no account' using errcode = 'foreign_key_violation';
    end if;
    return null;
end $$;
create function refuse_receipts_of_nothing() returns trigger language plpgsql as $$
begin
    if exists (
        select from added a
        where not exists (select from transfers t where t.transfer_id = a.transfer_id)
    ) then
        raise exception 'a receipt names no transfer' using errcode = 'foreign_key_violation';
    end if;
    return null;
end $$;

create trigger named_rows after insert on entries
    referencing new table as added for each statement execute function refuse_entries_of_nothing();
create trigger named_rows after insert on receipts
    referencing new table as added for each statement execute function refuse_receipts_of_nothing();
-- Transfers, entries and receipts are append-only already.
create function refuse_removal() returns trigger language plpgsql as $$
begin
    raise exception 'rows of table % are kept', tg_table_name using errcode = 'restrict_violation';
end $$;
create trigger kept before delete or truncate on accounts
    for each statement execute function refuse_removal();

alter table entries drop constraint entries_transfer_id_fkey,
    drop constraint entries_account_id_fkey;
alter table receipts drop constraint receipts_transfer_id_fkey;
