-- The path of a job. Forward only. Hot and narrow: queue, miner_live. Everything else is history.
-- Amounts are integer counts of 10^-9 AITBC; times are integer microseconds; uuids are text.

create table clients (
    client_id   text primary key,
    funding     text not null default 'issuance' check (funding in ('issuance', 'prepaid')),
    -- Share of the queue relative to other clients.
    weight      integer not null default 1 check (weight between 1 and 1000),
    -- Where this client's last job stands in the queue; see intake.
    last_rank   integer not null default 0,
    created_at  integer not null
) strict;

create table api_keys (
    key_id        text primary key,
    -- The secret is 256 random bits: its plain SHA-256 is enough, and all that is kept.
    secret_sha256 blob not null,
    scope         text not null check (scope in ('client', 'miner', 'admin')),
    client_id     text references clients,
    wallet        text,
    miner_id      text,
    created_at    integer not null,
    revoked_at    integer,
    check ((scope = 'client') = (client_id is not null)),
    check ((scope = 'miner') = (wallet is not null))
) strict;

create table idempotency (
    key_id       text not null,
    route        text not null,
    idempotency_key text not null,
    body_sha256  blob not null,
    status       integer not null,
    response     text not null,
    created_at   integer not null,
    primary key (key_id, route, idempotency_key)
) strict;
create index idempotency_age on idempotency (created_at);

create table miners (
    miner_no     integer primary key autoincrement,
    miner_id     text not null unique,
    wallet       text not null,
    -- The key that signs its receipts; null until it registers one.
    pubkey       text,
    -- False: known by its heartbeat only (the seed's script).
    registered   integer not null,
    capabilities text not null,
    -- It said E_NOGPU: no GPU jobs until its capabilities change.
    gpu_lost     integer not null default 0,
    drain        integer not null default 0,
    created_at   integer not null,
    updated_at   integer not null
) strict;
create index miners_by_wallet on miners (wallet);

-- Written once a second in one statement; no index but the key, so that updates stay in the page.
create table miner_live (
    miner_no integer primary key,
    seen_at  integer not null,
    report   text not null
) strict;

-- Requirements, interned: the queue carries four bytes instead of a document.
create table classes (
    class_id   integer primary key autoincrement,
    digest     blob not null unique,
    -- Who needed it first: no client may mint them all.
    client_id  text not null,
    needs      text not null,
    created_at integer not null
) strict;
create index classes_by_client on classes (client_id);

create table jobs (
    job_id        text primary key,
    client_id     text not null,
    workload      text not null,
    class_id      integer not null,
    unit_type     text not null,
    unit_price    integer not null check (unit_price >= 0),
    max_price     integer check (max_price >= 0),
    -- Taken from a prepaid client until the job ends.
    hold          integer not null default 0 check (hold >= 0),
    priority      integer not null,
    created_at    integer not null,
    expires_at    integer not null,
    -- Null while the job is in the queue.
    outcome       text check (outcome in ('COMPLETED', 'FAILED', 'CANCELED', 'EXPIRED')),
    attempt       integer not null default 1,
    miner_id      text,
    started_at    integer,
    finished_at   integer,
    error_code    text,
    error_message text,
    logs_tail     text,
    receipt_id    text
) strict;
create index jobs_by_client on jobs (client_id, job_id);

create table job_specs (
    job_id text primary key,
    spec   text not null
) strict;

create table job_results (
    job_id     text primary key,
    output_sha blob not null,
    exit_code  integer,
    metrics    text not null,
    result     text
) strict;

-- Live jobs only. A row leaves when its job ends.
create table queue (
    job_id           text primary key,
    class_id         integer not null,
    -- Fixed at submit; the lowest leaves first.
    rank             integer not null,
    -- DELAYED waits for due_at after a failed attempt.
    state            text not null check (state in ('QUEUED', 'DELAYED', 'ASSIGNED', 'RUNNING')),
    due_at           integer,
    expires_at       integer not null,
    attempt          integer not null default 1,
    max_attempts     integer not null,
    max_runtime_s    integer not null,
    -- The current holder, or the last one while the row still carries its fence.
    miner_no         integer,
    fence            integer not null default 0,
    lease_token      text,
    -- The holder never registered: it cannot present a token.
    tokenless        integer not null default 0,
    leased_at        integer,
    lease_expires_at integer,
    deadline_at      integer,
    excluded         text not null default '[]',
    event_seq        integer not null default 0,
    pct              integer,
    note             text
) strict;
create index queue_ready on queue (class_id, rank) where state = 'QUEUED';
create index queue_held on queue (miner_no) where state in ('ASSIGNED', 'RUNNING');
create index queue_delayed on queue (due_at) where state = 'DELAYED';
create index queue_lapsing on queue (expires_at) where state in ('QUEUED', 'DELAYED');

-- History: one row per lease.
create table attempts (
    job_id        text not null,
    fence         integer not null,
    miner_no      integer not null,
    miner_id      text not null,
    leased_at     integer not null,
    started_at    integer,
    ended_at      integer,
    outcome       text,
    error_code    text,
    error_message text,
    primary key (job_id, fence)
) strict;
create index attempts_by_miner on attempts (miner_no, leased_at);

-- History: append-only.
create table job_events (
    job_id text not null,
    seq    integer not null,
    at     integer not null,
    kind   text not null,
    data   text not null,
    primary key (job_id, seq)
) strict;

create table job_logs (
    job_id text not null,
    fence  integer not null,
    seq    integer not null,
    stream text not null,
    at     integer not null,
    body   text not null,
    primary key (job_id, fence, seq)
) strict;

create table artifacts (
    job_id      text not null,
    artifact_no integer not null,
    fence       integer not null,
    path        text not null,
    sha256      blob not null,
    size_bytes  integer not null,
    media_type  text,
    -- Where the object store keeps it.
    location    text not null,
    created_at  integer not null,
    primary key (job_id, artifact_no),
    unique (job_id, fence, path)
) strict;

create table inputs (
    client_id  text not null,
    sha256     blob not null,
    size_bytes integer not null,
    location   text not null,
    created_at integer not null,
    primary key (client_id, sha256)
) strict;

create table accounts (
    account_id integer primary key autoincrement,
    -- 'wallet:W', 'client:C', 'hold:C', 'issuance', 'fee', 'external'.
    name       text not null unique,
    balance    integer not null default 0,
    updated_at integer not null
) strict;

create table transfers (
    transfer_id text primary key,
    kind        text not null check (kind in ('hold', 'credit', 'release', 'deposit')),
    job_id      text,
    receipt_id  text,
    reference   text,
    created_at  integer not null
) strict;
-- A job is credited once, held once, released once, whatever the code above believes.
create unique index transfers_once_per_job on transfers (job_id, kind) where job_id is not null;
create unique index transfers_by_reference on transfers (reference) where reference is not null;

create table entries (
    transfer_id text not null references transfers,
    account_id  integer not null references accounts,
    amount      integer not null,
    primary key (account_id, transfer_id)
) strict;
create index entries_by_transfer on entries (transfer_id);

create table receipts (
    -- The signer chooses it: unique among its own.
    receipt_id     text not null,
    job_id         text not null unique,
    fence          integer not null,
    miner_no       integer not null,
    wallet         text not null,
    client_id      text not null,
    receipt_sha256 blob not null unique,
    output_sha     blob not null,
    price          integer not null,
    transfer_id    text not null unique references transfers,
    body           text not null,
    created_at     integer not null,
    primary key (miner_no, receipt_id)
) strict;
create index receipts_by_wallet on receipts (wallet, transfer_id);

create trigger job_events_no_update before update on job_events
    begin select raise(abort, 'table job_events is append-only'); end;
create trigger job_events_no_delete before delete on job_events
    begin select raise(abort, 'table job_events is append-only'); end;
create trigger transfers_no_update before update on transfers
    begin select raise(abort, 'table transfers is append-only'); end;
create trigger transfers_no_delete before delete on transfers
    begin select raise(abort, 'table transfers is append-only'); end;
create trigger entries_no_update before update on entries
    begin select raise(abort, 'table entries is append-only'); end;
create trigger entries_no_delete before delete on entries
    begin select raise(abort, 'table entries is append-only'); end;
create trigger receipts_no_update before update on receipts
    begin select raise(abort, 'table receipts is append-only'); end;
create trigger receipts_no_delete before delete on receipts
    begin select raise(abort, 'table receipts is append-only'); end;
