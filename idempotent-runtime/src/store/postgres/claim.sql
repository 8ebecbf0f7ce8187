-- `asked` has a row for each claim: one, or several of different keys, which travel together; `patience` has the time, and sets for
-- how long to wait for a lock (asked/claim.sql, asked/claims.sql, asked/claim_in_transaction.sql)
-- $1 operation  $2 key  $3 fingerprint  $4 nonce  $5 lease in µs  $6 time to live in µs
-- $7 how long in µs an abandoned or lapsed record may still be kept, for this claim to take it over
-- $8 arguments  $9 context
--
-- A row for each that is answered, with its nonce: the claim, or the record that stands against it. A record that answers the
-- claim is only read, so that a hit writes nothing and locks nothing; its answer was true after the claim was sent.
--
-- The snapshot only decides whether to try; the row itself decides, under its lock. Two claims that both see a lapsed row
-- both try: the first one takes it over, the second one waits for the row's lock, compares the row as it is by then,
-- finds a lease that is alive, and changes nothing. It then has neither a claim nor, in its snapshot, a record that
-- stands against it: it has no row, and the caller asks again. Several claims lock their rows in the
-- order of their keys, so that two such statements do not wait for each other in a circle.
--
-- There is one look at the clock, before any lock. What had passed by then has passed under the lock, too: a claim that had to wait
-- may so be refused, never granted too early. And its owner counts its lease from before the wait.
--
-- To begin a statement takes the server longer than to run this one. So there are as few columns and calls as do, and what
-- is computed from times is computed by who reads them.
WITH {asked}, standing AS MATERIALIZED (
    SELECT
        asked.nonce AS asked_by,
        false AS is_claimed,
        record.state,
        record.attempt,
        record.fence,
        record.fingerprint = asked.fingerprint AS is_same_request,
        record.nonce = asked.nonce AS is_ours,
        coalesce(record.generation, record.nonce) AS generation,
        record.before,
        record.since,
        record.failed,
        record.has_steps,
        patience.now,
        record.lease_until,
        record.not_before,
        -- whether this claim may take over at some time
        record.state = 'failed' OR record.expires_at <= patience.now + $7 * interval '1 microsecond' AS is_open,
        CASE WHEN record.fingerprint = asked.fingerprint THEN record.result END AS result,
        record.reason
    FROM patience
    CROSS JOIN asked
    -- OFFSET keeps this a look for each, by the index.
    CROSS JOIN LATERAL (
        SELECT * FROM "{table}" AS record WHERE record.operation = asked.operation AND record.key = asked.key OFFSET 0
    ) AS record
    WHERE record.expires_at > patience.now
        AND NOT (
            record.fingerprint = asked.fingerprint
            AND record.nonce <> asked.nonce
            AND coalesce(record.not_before <= patience.now, true)
            AND (
                record.state = 'failed'
                OR (
                    record.expires_at <= patience.now + $7 * interval '1 microsecond'
                    AND (record.state = 'abandoned' OR (record.state = 'running' AND record.lease_until <= patience.now))
                )
            )
        )
), claimed AS (
    INSERT INTO "{table}" AS record
        (operation, key, state, fingerprint, nonce, attempt, lease_until, expires_at, life_began_at, unended, arguments,
         context)
    SELECT
        asked.operation, asked.key, 'running', asked.fingerprint, asked.nonce, 1,
        patience.now + asked.lease * interval '1 microsecond',
        patience.now + (asked.lease + asked.ttl) * interval '1 microsecond',
        patience.now,
        asked.unended,
        asked.arguments,
        asked.context
    FROM patience CROSS JOIN asked
    WHERE patience.ours IS NOT NULL AND NOT EXISTS (SELECT FROM standing WHERE standing.asked_by = asked.nonce)
    ORDER BY asked.operation, asked.key
    -- `excluded.life_began_at` is the time. The life goes on as a whole, or begins anew.
    ON CONFLICT (operation, key) DO UPDATE SET
        state = 'running',
        fingerprint = excluded.fingerprint,
        nonce = excluded.nonce,
        fence = NULL,
        lease_until = excluded.lease_until,
        expires_at = excluded.expires_at,
        completed_at = NULL,
        result = NULL,
        reason = NULL,
        unended = excluded.unended,
        arguments = excluded.arguments,
        context = excluded.context,
        not_before = NULL,
        attempt =
            CASE WHEN record.expires_at > excluded.life_began_at THEN least(record.attempt, 2147483646) + 1 ELSE 1 END,
        life_began_at = CASE
            WHEN record.expires_at > excluded.life_began_at THEN record.life_began_at ELSE excluded.life_began_at
        END,
        generation =
            CASE WHEN record.expires_at > excluded.life_began_at THEN coalesce(record.generation, record.nonce) END,
        failed = CASE WHEN record.expires_at > excluded.life_began_at THEN record.failed ELSE 0 END,
        before = CASE
            WHEN record.expires_at > excluded.life_began_at
            THEN CASE record.state WHEN 'failed' THEN 'failed' ELSE 'abandoned' END
        END,
        -- Version 3 did not write when a run was abandoned.
        since = CASE
            WHEN record.expires_at > excluded.life_began_at
            THEN coalesce(record.lease_until, record.since, excluded.life_began_at)
        END,
        has_steps = record.expires_at > excluded.life_began_at AND record.has_steps
    WHERE record.expires_at <= excluded.life_began_at
        OR (
            record.fingerprint = excluded.fingerprint
            AND record.nonce <> excluded.nonce
            AND coalesce(record.not_before <= excluded.life_began_at, true)
            AND (
                record.state = 'failed'
                OR (
                    record.expires_at <= excluded.life_began_at + $7 * interval '1 microsecond'
                    AND (
                        record.state = 'abandoned'
                        OR (record.state = 'running' AND record.lease_until <= excluded.life_began_at)
                    )
                )
            )
        )
    RETURNING
        nonce AS asked_by,
        true AS is_claimed,
        state,
        attempt,
        -- Under the lock, so that it is higher than those of all claims before. Elsewhere it is drawn on first use.
        CASE WHEN unended IS NOT NULL THEN nextval('"{table}_fence"') END AS fence,
        true AS is_same_request,
        true AS is_ours,
        coalesce(generation, nonce) AS generation,
        before,
        since,
        failed,
        has_steps,
        clock_timestamp() AS now,
        lease_until,
        not_before,
        true AS is_open,
        result,
        reason
), answer AS (
    SELECT * FROM claimed UNION ALL SELECT * FROM standing
)
{answer}
