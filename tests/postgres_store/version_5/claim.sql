-- `asked` has a row for each claim: one, or several of different keys, which travel together (asked/claim.sql, asked/claims.sql)
-- $1 operation  $2 key  $3 fingerprint  $4 nonce  $5 lease in µs  $6 time to live in µs  $9 arguments
-- $7 how long in µs an abandoned or lapsed record may still be kept, for this claim to take it over
-- $8 NULL, or in a transaction of the caller's: for how many ms to wait for another transaction that has the key
--    (elsewhere 50: a claim that waits has a connection, which others need)
--
-- A row for each that is answered, with its number: the claim, or the record that stands against it. A record that answers the
-- claim is only read, so that a hit writes nothing and locks nothing; its answer was true after the claim was sent.
--
-- The snapshot only decides whether to try; the row itself decides, under its lock. Two claims that both see a lapsed row
-- both try: the first one takes it over, the second one waits for the row's lock, compares the row as it is by then,
-- finds a lease that is alive, and changes nothing. It then has neither a claim nor, in its snapshot, a record that
-- stands against it: it has no row, and the caller asks again. Several claims lock their rows in the
-- order of their keys, so that two such statements do not wait for each other in a circle.
--
-- The caller's own lock_timeout is set aside before anything is locked, and is back when this ends; an error takes the
-- transaction back to where it was set. A claim in a transaction has to be ended in it: see the schema.
WITH patience AS MATERIALIZED (
    SELECT
        callers,
        set_config('lock_timeout', coalesce($8::text, '50'), true) AS ours,
        -- An answer means that the claim is on disk. In a transaction of the caller's that is the caller's to say.
        CASE
            WHEN $8 IS NULL AND current_setting('synchronous_commit') = 'off'
            THEN set_config('synchronous_commit', 'on', true)
        END
    FROM (SELECT current_setting('lock_timeout') AS callers OFFSET 0) AS setting
), asked AS MATERIALIZED (
    SELECT
        1::bigint AS number, $1::text AS operation, $2::text AS key, $3::bytea AS fingerprint, $4::bytea AS nonce,
        $5::bigint AS lease, $6::bigint AS ttl, $9::bytea AS arguments
), standing AS MATERIALIZED (
    SELECT
        asked.number,
        record.state,
        record.attempt,
        record.fence,
        record.fingerprint = asked.fingerprint AS is_same_request,
        record.nonce = asked.nonce AS is_ours,
        (extract(epoch FROM record.lease_until - clock.now) * 1000000)::bigint AS lease_left_us,
        CASE WHEN record.fingerprint = asked.fingerprint THEN record.result END AS result,
        record.reason,
        coalesce(record.generation, record.nonce) AS generation,
        record.before,
        (extract(epoch FROM clock.now - record.since) * 1000000)::bigint AS since_us,
        record.failed,
        record.has_steps,
        -- NULL where this claim may not take over, however long it waits. The claim of the run that was suspended last is
        -- never granted again: this is then more than zero, also without a pause.
        CASE
            WHEN record.state = 'failed' OR record.expires_at <= clock.now + $7 * interval '1 microsecond'
            THEN greatest(
                (extract(epoch FROM record.not_before - clock.now) * 1000000)::bigint,
                CASE WHEN record.nonce = asked.nonce THEN 1000 END
            )
        END AS pause_us
    FROM (SELECT clock_timestamp() AS now) AS clock
    CROSS JOIN asked
    -- OFFSET keeps this a look for each, by the index.
    CROSS JOIN LATERAL (
        SELECT * FROM "{table}" AS record WHERE record.operation = asked.operation AND record.key = asked.key OFFSET 0
    ) AS record
    WHERE record.expires_at > clock.now
        AND NOT (
            record.fingerprint = asked.fingerprint
            AND record.nonce <> asked.nonce
            AND coalesce(record.not_before <= clock.now, true)
            AND (
                record.state = 'failed'
                OR (
                    record.expires_at <= clock.now + $7 * interval '1 microsecond'
                    AND (record.state = 'abandoned' OR (record.state = 'running' AND record.lease_until <= clock.now))
                )
            )
        )
), claimed AS (
    INSERT INTO "{table}" AS record
        (operation, key, state, fingerprint, nonce, attempt, lease_until, expires_at, life_began_at, unended, arguments)
    SELECT
        asked.operation, asked.key, 'running', asked.fingerprint, asked.nonce, 1,
        clock_timestamp() + asked.lease * interval '1 microsecond',
        clock_timestamp() + (asked.lease + asked.ttl) * interval '1 microsecond',
        clock_timestamp(),
        CASE WHEN $8 IS NOT NULL THEN 1 END,
        asked.arguments
    FROM patience CROSS JOIN asked
    WHERE patience.ours IS NOT NULL AND NOT EXISTS (SELECT FROM standing WHERE standing.number = asked.number)
    ORDER BY asked.operation, asked.key
    ON CONFLICT (operation, key) DO UPDATE SET
        state = 'running',
        fingerprint = excluded.fingerprint,
        nonce = excluded.nonce,
        fence = NULL,
        -- Before the wait for the row, if there was one: the owner counts from before that, too.
        lease_until = excluded.lease_until,
        expires_at = excluded.expires_at,
        completed_at = NULL,
        result = NULL,
        reason = NULL,
        unended = excluded.unended,
        arguments = excluded.arguments,
        not_before = NULL,
        -- One look at the clock for all: the life goes on as a whole, or begins anew.
        (attempt, life_began_at, generation, failed, before, since, has_steps) = (
            SELECT
                CASE WHEN is_live THEN least(record.attempt, 2147483646) + 1 ELSE 1 END,
                CASE WHEN is_live THEN record.life_began_at ELSE now END,
                CASE WHEN is_live THEN coalesce(record.generation, record.nonce) END,
                CASE WHEN is_live THEN record.failed ELSE 0 END,
                CASE WHEN is_live THEN CASE record.state WHEN 'failed' THEN 'failed' ELSE 'abandoned' END END,
                -- Version 3 did not write when a run was abandoned.
                CASE WHEN is_live THEN coalesce(record.lease_until, record.since, now) END,
                is_live AND record.has_steps
            FROM (
                SELECT now, record.expires_at > now AS is_live FROM (SELECT clock_timestamp() AS now) AS clock
            ) AS life
        )
    WHERE record.expires_at <= clock_timestamp()
        OR (
            record.fingerprint = excluded.fingerprint
            AND record.nonce <> excluded.nonce
            AND coalesce(record.not_before <= clock_timestamp(), true)
            AND (
                record.state = 'failed'
                OR (
                    record.expires_at <= clock_timestamp() + $7 * interval '1 microsecond'
                    AND (
                        record.state = 'abandoned'
                        OR (record.state = 'running' AND record.lease_until <= clock_timestamp())
                    )
                )
            )
        )
    RETURNING
        operation,
        key,
        attempt,
        -- Under the lock, so that it is higher than those of all claims before. Elsewhere it is drawn on first use.
        CASE WHEN $8 IS NOT NULL THEN nextval('"{table}_fence"') END AS fence,
        coalesce(generation, nonce) AS generation,
        before,
        (extract(epoch FROM clock_timestamp() - since) * 1000000)::bigint AS since_us,
        failed,
        has_steps
), answer AS (
    SELECT
        true AS is_claimed, 'running' AS state, attempt, fence, true AS is_same_request, true AS is_ours,
        NULL::bigint AS lease_left_us, NULL::bytea AS result, NULL::text AS reason, generation, before, since_us, failed,
        has_steps, NULL::bigint AS pause_us, asked.number
    FROM claimed JOIN asked USING (operation, key)
    UNION ALL
    SELECT
        false, state, attempt, fence, is_same_request, is_ours, lease_left_us, result, reason, generation, before, since_us,
        failed, has_steps, pause_us, number
    FROM standing
)
SELECT answer.*, CASE WHEN $8 IS NOT NULL THEN set_config('lock_timeout', patience.callers, true) END
FROM patience LEFT JOIN answer ON true
