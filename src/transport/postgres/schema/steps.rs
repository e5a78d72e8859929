//! The steps from an empty schema to the newest one. A step that was released is never changed: databases that took it exist.
//!
//! One table holds all tasks, whatever their `state`, with a partial index for each state, so that the cost of a claim does not grow
//! with the number of dead letters. States are small numbers: a value cannot be added to an enumeration in the transaction that
//! uses it. JSON is text: `jsonb` refuses `\u0000`. There are no foreign keys, whose row locks gather on the rows that all refer to.
//!
//! `@.` stands for the schema.

/// One after the other; `meta.version` counts those that were taken.
pub(crate) const STEPS: &[&str] = &[
    "
CREATE TABLE @.meta (
    version int NOT NULL,
    oldest_program int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO @.meta (version, oldest_program) VALUES (0, 1);
CREATE FUNCTION @.now_ms() RETURNS bigint LANGUAGE sql STABLE
    AS 'SELECT floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint';
CREATE TABLE @.queue (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    hidden boolean NOT NULL DEFAULT false
);
CREATE TABLE @.task (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue int NOT NULL,
    state smallint NOT NULL DEFAULT 0,
    due bigint NOT NULL,
    owner bigint NOT NULL DEFAULT 0,
    claim int NOT NULL DEFAULT 0,
    attempts int NOT NULL DEFAULT 0,
    deliveries int NOT NULL DEFAULT 0,
    redelivered boolean NOT NULL DEFAULT false,
    cancel_asked boolean NOT NULL DEFAULT false,
    expires_at bigint,
    first_failed_at bigint,
    purge_at bigint,
    message_id text NOT NULL,
    headers text,
    body bytea NOT NULL,
    history text,
    failure text,
    reason text,
    fingerprint text,
    application text,
    job text,
    round uuid,
    member text,
    wipes boolean NOT NULL DEFAULT false,
    memo text
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000, vacuum_truncate = off
);
CREATE INDEX task_ready ON @.task (queue, due, id) WHERE state = 0;
CREATE INDEX task_held ON @.task (owner, queue) WHERE state = 1;
CREATE INDEX task_dead ON @.task (queue, due, id) WHERE state = 2;
CREATE INDEX task_cause ON @.task (queue, reason, fingerprint, due) WHERE state = 2;
CREATE INDEX task_purge ON @.task (purge_at) WHERE state = 2 AND purge_at IS NOT NULL;
CREATE INDEX task_round ON @.task (round) WHERE round IS NOT NULL;
CREATE INDEX task_set_aside ON @.task (job, queue) WHERE state = 3;
CREATE TABLE @.held_key (
    key text PRIMARY KEY,
    owner bigint NOT NULL,
    row bigint NOT NULL,
    task text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, vacuum_truncate = off);
CREATE INDEX held_key_owner ON @.held_key (owner, row);
CREATE TABLE @.master (
    owner bigint PRIMARY KEY,
    host text NOT NULL,
    pid int NOT NULL,
    backend int NOT NULL,
    program text NOT NULL,
    attached_at bigint NOT NULL
);
CREATE TABLE @.fired (
    application text,
    schedule text,
    moment bigint,
    PRIMARY KEY (application, schedule, moment)
);
CREATE UNLOGGED TABLE @.node (owner bigint PRIMARY KEY, waits boolean NOT NULL);
CREATE UNLOGGED TABLE @.boot (only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one), seen bigint NOT NULL);
CREATE TABLE @.entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application text NOT NULL,
    body bytea NOT NULL
);
CREATE INDEX entry_ledger ON @.entry (application, id);
CREATE TABLE @.ledger (application text PRIMARY KEY, epoch bigint NOT NULL, owner bigint NOT NULL);
CREATE TABLE @.job (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application text NOT NULL,
    id text COLLATE \"C\" NOT NULL,
    pipeline text NOT NULL,
    key text,
    holds_key boolean NOT NULL,
    state text NOT NULL,
    frozen boolean NOT NULL,
    open boolean NOT NULL,
    priority int NOT NULL,
    made_at bigint NOT NULL,
    purge_at bigint,
    epoch bigint NOT NULL,
    version bigint NOT NULL,
    rounds uuid[] NOT NULL,
    content text NOT NULL
);
CREATE UNIQUE INDEX job_id ON @.job (application, id);
CREATE INDEX job_pipeline ON @.job (application, pipeline, made_at);
CREATE UNIQUE INDEX job_key ON @.job (application, pipeline, key) WHERE holds_key;
CREATE INDEX job_open ON @.job (application, made_at) WHERE open;
CREATE INDEX job_made ON @.job (application, made_at, number);
CREATE INDEX job_purge ON @.job (purge_at) WHERE purge_at IS NOT NULL;
CREATE TABLE @.void (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    round uuid NOT NULL UNIQUE,
    at bigint NOT NULL,
    swept boolean NOT NULL
);
CREATE INDEX void_at ON @.void (at);
CREATE INDEX void_unswept ON @.void (id) WHERE NOT swept;
CREATE TABLE @.frozen_job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application text NOT NULL,
    job text NOT NULL,
    UNIQUE (application, job)
);
CREATE TABLE @.thawing (application text, job text, PRIMARY KEY (application, job));
CREATE TABLE @.reviving (round uuid PRIMARY KEY, until bigint NOT NULL);
CREATE TABLE @.frozen_pipeline (application text NOT NULL, pipeline text NOT NULL, key text);
CREATE TABLE @.answer (
    application text,
    id text,
    text text NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (application, id)
);
CREATE INDEX answer_at ON @.answer (at);
",
    include_str!("submit.sql"),
];

/// The oldest program that can work with the newest schema, as the number of steps that it knows.
pub(crate) const OLDEST_PROGRAM: i32 = 2;
