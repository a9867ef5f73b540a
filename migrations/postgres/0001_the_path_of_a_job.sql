-- The path of a job. Forward only. Hot and narrow: queue, miner_live. Everything else is history.
-- Amounts are bigint counts of 10^-9 AITBC.

create table clients (
    client_id   text primary key,
    funding     text not null default 'issuance' check (funding in ('issuance', 'prepaid')),
    -- Share of the queue relative to other clients.
    weight      integer not null default 1 check (weight between 1 and 1000),
    -- Where this client's last job stands in the queue; see intake.
    last_rank   bigint not null default 0,
    created_at  timestamptz not null
);

create table api_keys (
    key_id        text primary key,
    -- The secret is 256 random bits: its plain SHA-256 is enough, and all that is kept.
    secret_sha256 bytea not null,
    scope         text not null check (scope in ('client', 'miner', 'admin')),
    client_id     text references clients,
    wallet        text,
    miner_id      text,
    created_at    timestamptz not null,
    revoked_at    timestamptz,
    check ((scope = 'client') = (client_id is not null)),
    check ((scope = 'miner') = (wallet is not null))
);

create table idempotency (
    key_id       text not null,
    route        text not null,
    idempotency_key uuid not null,
    body_sha256  bytea not null,
    status       smallint not null,
    response     text not null,
    created_at   timestamptz not null,
    primary key (key_id, route, idempotency_key)
);
create index idempotency_age on idempotency (created_at);

create table miners (
    miner_no     bigint generated always as identity primary key,
    miner_id     text not null unique,
    wallet       text not null,
    -- The key that signs its receipts; null until it registers one.
    pubkey       text,
    -- False: known by its heartbeat only (the seed's script).
    registered   boolean not null,
    capabilities jsonb not null,
    -- It said E_NOGPU: no GPU jobs until its capabilities change.
    gpu_lost     boolean not null default false,
    drain        boolean not null default false,
    created_at   timestamptz not null,
    updated_at   timestamptz not null
);
create index miners_by_wallet on miners (wallet);

-- Written once a second in one statement; no index but the key, so that updates stay in the page.
create table miner_live (
    miner_no bigint primary key,
    seen_at  timestamptz not null,
    report   jsonb not null
) with (fillfactor = 50);

-- Requirements, interned: the queue carries four bytes instead of a document.
create table classes (
    class_id   integer generated always as identity primary key,
    digest     bytea not null unique,
    -- Who needed it first: no client may mint them all.
    client_id  text not null,
    needs      jsonb not null,
    created_at timestamptz not null
);
create index classes_by_client on classes (client_id);

create table jobs (
    job_id        uuid primary key,
    client_id     text not null,
    workload      text not null,
    class_id      integer not null,
    unit_type     text not null,
    unit_price    bigint not null check (unit_price >= 0),
    max_price     bigint check (max_price >= 0),
    -- Taken from a prepaid client until the job ends.
    hold          bigint not null default 0 check (hold >= 0),
    priority      smallint not null,
    created_at    timestamptz not null,
    expires_at    timestamptz not null,
    -- Null while the job is in the queue.
    outcome       text check (outcome in ('COMPLETED', 'FAILED', 'CANCELED', 'EXPIRED')),
    attempt       smallint not null default 1,
    miner_id      text,
    started_at    timestamptz,
    finished_at   timestamptz,
    error_code    text,
    error_message text,
    logs_tail     text,
    receipt_id    text
);
create index jobs_by_client on jobs (client_id, job_id);

create table job_specs (
    job_id uuid primary key,
    spec   jsonb not null
);

create table job_results (
    job_id     uuid primary key,
    output_sha bytea not null,
    exit_code  integer,
    metrics    jsonb not null,
    -- JSON as it came: jsonb would write some numbers otherwise, and the hash is of these bytes.
    result     text
);

-- Live jobs only. A row leaves when its job ends.
create table queue (
    job_id           uuid primary key,
    class_id         integer not null,
    -- Fixed at submit; the lowest leaves first.
    rank             bigint not null,
    -- DELAYED waits for due_at after a failed attempt.
    state            text not null check (state in ('QUEUED', 'DELAYED', 'ASSIGNED', 'RUNNING')),
    due_at           timestamptz,
    expires_at       timestamptz not null,
    attempt          smallint not null default 1,
    max_attempts     smallint not null,
    max_runtime_s    integer not null,
    -- The current holder, or the last one while the row still carries its fence.
    miner_no         bigint,
    fence            bigint not null default 0,
    lease_token      uuid,
    -- The holder never registered: it cannot present a token.
    tokenless        boolean not null default false,
    leased_at        timestamptz,
    lease_expires_at timestamptz,
    deadline_at      timestamptz,
    excluded         jsonb not null default '[]',
    event_seq        integer not null default 0,
    pct              smallint,
    note             text
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
create index queue_ready on queue (class_id, rank) where state = 'QUEUED';
create index queue_held on queue (miner_no) where state in ('ASSIGNED', 'RUNNING');
create index queue_delayed on queue (due_at) where state = 'DELAYED';
create index queue_lapsing on queue (expires_at) where state in ('QUEUED', 'DELAYED');

-- History: one row per lease.
create table attempts (
    job_id        uuid not null,
    fence         bigint not null,
    miner_no      bigint not null,
    miner_id      text not null,
    leased_at     timestamptz not null,
    started_at    timestamptz,
    ended_at      timestamptz,
    outcome       text,
    error_code    text,
    error_message text,
    primary key (job_id, fence)
);
create index attempts_by_miner on attempts (miner_no, leased_at);

-- History: append-only.
create table job_events (
    job_id uuid not null,
    seq    integer not null,
    at     timestamptz not null,
    kind   text not null,
    data   jsonb not null,
    primary key (job_id, seq)
);

create table job_logs (
    job_id uuid not null,
    fence  bigint not null,
    seq    bigint not null,
    stream text not null,
    at     timestamptz not null,
    body   text not null,
    primary key (job_id, fence, seq)
);

create table artifacts (
    job_id      uuid not null,
    artifact_no bigint not null,
    fence       bigint not null,
    path        text not null,
    sha256      bytea not null,
    size_bytes  bigint not null,
    media_type  text,
    -- Where the object store keeps it.
    location    text not null,
    created_at  timestamptz not null,
    primary key (job_id, artifact_no),
    unique (job_id, fence, path)
);

create table inputs (
    client_id  text not null,
    sha256     bytea not null,
    size_bytes bigint not null,
    location   text not null,
    created_at timestamptz not null,
    primary key (client_id, sha256)
);

create table accounts (
    account_id bigint generated always as identity primary key,
    -- 'wallet:W', 'client:C', 'hold:C', 'issuance', 'fee', 'external'.
    name       text not null unique,
    balance    bigint not null default 0,
    updated_at timestamptz not null
);

create table transfers (
    transfer_id uuid primary key,
    kind        text not null check (kind in ('hold', 'credit', 'release', 'deposit')),
    job_id      uuid,
    receipt_id  text,
    reference   text,
    created_at  timestamptz not null
);
-- A job is credited once, held once, released once, whatever the code above believes.
create unique index transfers_once_per_job on transfers (job_id, kind) where job_id is not null;
create unique index transfers_by_reference on transfers (reference) where reference is not null;

create table entries (
    transfer_id uuid not null references transfers,
    account_id  bigint not null references accounts,
    amount      bigint not null,
    primary key (account_id, transfer_id)
);
create index entries_by_transfer on entries (transfer_id);

create table receipts (
    -- The signer chooses it: unique among its own.
    receipt_id     text not null,
    job_id         uuid not null unique,
    fence          bigint not null,
    miner_no       bigint not null,
    wallet         text not null,
    client_id      text not null,
    receipt_sha256 bytea not null unique,
    output_sha     bytea not null,
    price          bigint not null,
    transfer_id    uuid not null unique references transfers,
    body           text not null,
    created_at     timestamptz not null,
    primary key (miner_no, receipt_id)
);
create index receipts_by_wallet on receipts (wallet, transfer_id);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'table % is append-only', tg_table_name using errcode = 'restrict_violation';
end $$;
create trigger append_only before update or delete or truncate on job_events
    for each statement execute function refuse_change();
create trigger append_only before update or delete or truncate on transfers
    for each statement execute function refuse_change();
create trigger append_only before update or delete or truncate on entries
    for each statement execute function refuse_change();
create trigger append_only before update or delete or truncate on receipts
    for each statement execute function refuse_change();
