-- $1 operation  $2 key  $3 fingerprint  $4 nonce  $5 lease in µs  $6 time to live in µs  $7 true if a takeover is allowed
-- $8 NULL, or in a transaction of the caller's: for how many ms to wait for another transaction that has the key
--    (elsewhere 50: a claim that waits has a connection, which others need)
-- $9 arguments
--
-- One row: the claim, or the record that stands against it. A record that answers the claim is only read, so that a hit
-- writes nothing and locks nothing; its answer was true after the claim was sent.
--
-- The snapshot only decides whether to try; the row itself decides, under its lock. Two claims that both see a lapsed row
-- both try: the first one takes it over, the second one waits for the row's lock, compares the row as it is by then,
-- finds a lease that is alive, and changes nothing. It then has neither a claim nor, in its snapshot, a record that
-- stands against it: all NULL, and the caller asks again.
--
-- The caller's own lock_timeout is set aside before anything is locked, and is back when this ends; an error takes the
-- transaction back to where it was set. A claim in a transaction has to be ended in it: see the schema.
WITH patience AS MATERIALIZED (
    SELECT
        before,
        set_config('lock_timeout', coalesce($8::text, '50'), true) AS now,
        -- An answer means that the claim is on disk. In a transaction of the caller's that is the caller's to say.
        CASE
            WHEN $8 IS NULL AND current_setting('synchronous_commit') = 'off'
            THEN set_config('synchronous_commit', 'on', true)
        END
    FROM (SELECT current_setting('lock_timeout') AS before OFFSET 0) AS setting
), standing AS MATERIALIZED (
    SELECT
        record.state,
        record.attempt,
        record.fence,
        record.fingerprint = $3 AS is_same_request,
        record.nonce = $4 AS is_ours,
        (extract(epoch FROM record.lease_until - clock.now) * 1000000)::bigint AS lease_left_us,
        CASE WHEN record.fingerprint = $3 THEN record.result END AS result,
        record.reason
    FROM "{table}" AS record CROSS JOIN (SELECT clock_timestamp() AS now) AS clock
    WHERE record.operation = $1
        AND record.key = $2
        AND record.expires_at > clock.now
        AND NOT (
            $7
            AND record.fingerprint = $3
            AND record.expires_at <= clock.now + {held}
            AND (
                record.state = 'abandoned'
                OR (record.state = 'running' AND record.lease_until <= clock.now AND record.nonce <> $4)
            )
        )
), claimed AS (
    INSERT INTO "{table}" AS record
        (
            operation, key, state, fingerprint, nonce, attempt, lease_until, expires_at, first_claimed_at, unended,
            arguments
        )
    SELECT
        $1, $2, 'running', $3, $4, 1,
        clock_timestamp() + $5 * interval '1 microsecond',
        clock_timestamp() + ($5 + $6) * interval '1 microsecond',
        clock_timestamp(),
        CASE WHEN $8 IS NOT NULL THEN 1 END,
        $9
    FROM patience
    WHERE patience.now IS NOT NULL AND NOT EXISTS (SELECT FROM standing)
    ON CONFLICT (operation, key) DO UPDATE SET
        state = 'running',
        fingerprint = $3,
        nonce = $4,
        fence = NULL,
        attempt = CASE WHEN record.expires_at <= clock_timestamp() THEN 1 ELSE least(record.attempt, 2147483646) + 1 END,
        lease_until = clock_timestamp() + $5 * interval '1 microsecond',
        expires_at = clock_timestamp() + ($5 + $6) * interval '1 microsecond',
        first_claimed_at = CASE
            WHEN record.expires_at <= clock_timestamp() THEN clock_timestamp() ELSE record.first_claimed_at
        END,
        completed_at = NULL,
        result = NULL,
        reason = NULL,
        unended = excluded.unended,
        arguments = $9
    WHERE record.expires_at <= clock_timestamp()
        OR (
            $7
            AND record.fingerprint = $3
            AND record.expires_at <= clock_timestamp() + {held}
            AND (
                record.state = 'abandoned'
                OR (record.state = 'running' AND record.lease_until <= clock_timestamp() AND record.nonce <> $4)
            )
        )
    -- Under the lock, so that it is higher than those of all claims before. Elsewhere it is drawn on first use.
    RETURNING record.attempt, CASE WHEN $8 IS NOT NULL THEN nextval('"{table}_fence"') END AS fence
), answer AS (
    SELECT
        true AS is_claimed, 'running' AS state, attempt, fence, true AS is_same_request, true AS is_ours,
        NULL::bigint AS lease_left_us, NULL::bytea AS result, NULL::text AS reason
    FROM claimed
    UNION ALL
    SELECT false, state, attempt, fence, is_same_request, is_ours, lease_left_us, result, reason FROM standing
)
SELECT answer.*, CASE WHEN $8 IS NOT NULL THEN set_config('lock_timeout', patience.before, true) END
FROM patience LEFT JOIN answer ON true
