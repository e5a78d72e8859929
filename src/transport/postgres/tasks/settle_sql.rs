//! The statements of settlements. Each gives the ids of the rows that it changed.

/// What would go back and is of a void round goes instead: `ids, claims`.
pub(crate) const REMOVE_VOID: &str = "
DELETE FROM @.task AS t USING unnest($1::bigint[], $2::int[]) AS s (id, claim)
WHERE t.id = s.id AND t.claim = s.claim AND t.state = 1 AND EXISTS (SELECT 1 FROM @.void AS v WHERE v.round = t.round)
RETURNING t.id";

/// `ids, claims`.
pub(crate) const REMOVE: &str = "
DELETE FROM @.task AS t USING unnest($1::bigint[], $2::int[]) AS s (id, claim)
WHERE t.id = s.id AND t.claim = s.claim AND t.state = 1 RETURNING t.id";

/// Rows go, and what they submit comes: `ids, claims`; the columns of [`INSERT`](super::submit::INSERT) with the row that each follows;
/// entries of ledgers: the row that each follows, application, body. What follows no row was submitted by an accepted task.
pub(crate) const FINISH: &str = "
WITH removed AS (
    DELETE FROM @.task AS t USING unnest($1::bigint[], $2::int[]) AS s (id, claim)
    WHERE t.id = s.id AND t.claim = s.claim AND t.state = 1 RETURNING t.id
), stored AS (
    INSERT INTO @.task (queue, due, expires_at, message_id, headers, body, application, job, round, member, wipes)
    SELECT queue, @.now_ms() + delay, expires_at, message_id, headers, body, application, job, round, member, wipes
    FROM unnest($3::int[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::bytea[], $9::text[], $10::text[],
                $11::uuid[], $12::text[], $13::bool[], $14::bigint[]) WITH ORDINALITY
        AS new (queue, delay, expires_at, message_id, headers, body, application, job, round, member, wipes, follows, n)
    WHERE follows IS NULL OR follows IN (SELECT id FROM removed) ORDER BY n
), told AS (
    INSERT INTO @.entry (application, body)
    SELECT application, body FROM unnest($15::bigint[], $16::text[], $17::bytea[]) WITH ORDINALITY
        AS new (follows, application, body, n)
    WHERE follows IS NULL OR follows IN (SELECT id FROM removed) ORDER BY n
)
SELECT id FROM removed";

/// `ids, claims, after, attempts used, failed at, memos, applications, entries`.
pub(crate) const PUT_BACK: &str = "
WITH changed AS (
    UPDATE @.task AS t SET state = 0, owner = 0, due = @.now_ms() + s.after, attempts = t.attempts + s.used, deliveries = 0,
        redelivered = false, first_failed_at = coalesce(t.first_failed_at, s.failed_at), memo = coalesce(s.memo, t.memo)
    FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::int[], $5::bigint[], $6::text[], $7::text[], $8::bytea[])
        WITH ORDINALITY AS s (id, claim, after, used, failed_at, memo, application, entry, n)
    WHERE t.id = s.id AND t.claim = s.claim AND t.state = 1 RETURNING t.id, s.application, s.entry, s.n
), told AS (
    INSERT INTO @.entry (application, body) SELECT application, entry FROM changed WHERE entry IS NOT NULL ORDER BY n
)
SELECT id FROM changed";

/// `ids, claims`.
pub(crate) const RELEASE: &str = "
UPDATE @.task AS t SET state = 0, owner = 0, redelivered = true FROM unnest($1::bigint[], $2::int[]) AS s (id, claim)
WHERE t.id = s.id AND t.claim = s.claim AND t.state = 1 RETURNING t.id";

/// `ids, claims, failures, kept for, failed at, memos, reasons, fingerprints, applications, entries`.
pub(crate) const DEAD: &str = "
WITH changed AS (
    UPDATE @.task AS t SET state = 2, owner = 0, due = @.now_ms(), failure = s.failure, purge_at = @.now_ms() + s.keep,
        first_failed_at = coalesce(t.first_failed_at, s.failed_at), memo = coalesce(s.memo, t.memo), reason = s.reason,
        fingerprint = s.fingerprint
    FROM unnest($1::bigint[], $2::int[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[],
                $9::text[], $10::bytea[])
        WITH ORDINALITY AS s (id, claim, failure, keep, failed_at, memo, reason, fingerprint, application, entry, n)
    WHERE t.id = s.id AND t.claim = s.claim AND t.state = 1 RETURNING t.id, s.application, s.entry, s.n
), told AS (
    INSERT INTO @.entry (application, body) SELECT application, entry FROM changed WHERE entry IS NOT NULL ORDER BY n
)
SELECT id FROM changed";

/// What is kept of an accepted task, unless it would go back and its round is void; and what its ledger is told.
pub(crate) const COPY: &str = "
WITH stored AS (
    INSERT INTO @.task (queue, state, due, attempts, expires_at, first_failed_at, message_id, headers, body, history, failure,
                        reason, fingerprint, purge_at, application, job, round, member, wipes, memo)
    SELECT $1::int, $2::smallint, @.now_ms() + $3::bigint, $4::int, $5::bigint, $6::bigint, $7::text, $8::text, $9::bytea,
        $10::text, $11::text, $12::text, $13::text, @.now_ms() + $14::bigint, $15::text, $16::text, $17::uuid, $18::text,
        $19::bool, $20::text
    WHERE $2::smallint <> 0 OR $17::uuid IS NULL OR NOT EXISTS (SELECT 1 FROM @.void AS v WHERE v.round = $17::uuid)
    RETURNING application
), told AS (
    INSERT INTO @.entry (application, body) SELECT application, $21::bytea FROM stored WHERE $21::bytea IS NOT NULL
)
SELECT 0::bigint";
