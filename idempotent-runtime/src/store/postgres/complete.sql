-- $1 operation  $2 key  $3 nonce  $4 the state that it ends in  $5 result  $6 reason  $7 time to live in µs
-- $8 what waiters are notified with
-- One row: ended now. The journal goes with the run, by a trigger: see the schema.
WITH {settings}, ended AS (
    UPDATE "{table}" SET
        state = $4,
        result = $5,
        reason = $6,
        lease_until = NULL,
        unended = NULL,
        has_steps = false,
        completed_at = clock_timestamp(),
        expires_at = clock_timestamp() + $7 * interval '1 microsecond'
    FROM settings
    WHERE operation = $1 AND key = $2 AND nonce = $3 AND state = 'running' AND expires_at > clock_timestamp()
    RETURNING waiters
)
SELECT CASE WHEN waiters THEN pg_notify('{table}', $8) END FROM ended
