-- Leaves the key as an operator says, if its record is the one that was seen.
-- $1 operation  $2 key  $3 the owner that was seen  $4 the state that was seen  $5 true if a live run is resolved, too
-- $6 the owner from here on  $7 the state from here on, NULL where the record goes  $8 result  $9 reason
-- $10 how long to keep it in µs  $11 context  $12 what waiters are notified with
--
-- One row: resolved now. A failed record is as before its first run, with its journal. Each part changes the row only where
-- the other one does not.
WITH {settings}, removed AS (
    DELETE FROM "{table}" USING settings
    WHERE operation = $1 AND key = $2 AND nonce = $3 AND state = $4 AND expires_at > clock_timestamp()
        AND ($5 OR state <> 'running' OR lease_until <= clock_timestamp())
        AND $7::text IS NULL
    RETURNING waiters
), left_behind AS (
    UPDATE "{table}" SET
        state = $7,
        nonce = $6,
        generation = coalesce(generation, nonce),
        result = $8,
        reason = $9,
        context = $11,
        attempt = CASE WHEN $7 = 'failed' THEN 0 ELSE attempt END,
        failed = CASE WHEN $7 = 'failed' THEN 0 ELSE failed END,
        before = NULL,
        since = clock_timestamp(),
        not_before = NULL,
        lease_until = NULL,
        unended = NULL,
        has_steps = has_steps AND $7 = 'failed',
        completed_at = CASE WHEN $7 <> 'failed' THEN clock_timestamp() END,
        expires_at = clock_timestamp() + $10 * interval '1 microsecond'
    FROM settings
    WHERE operation = $1 AND key = $2 AND nonce = $3 AND state = $4 AND expires_at > clock_timestamp()
        AND ($5 OR state <> 'running' OR lease_until <= clock_timestamp())
        AND $7::text IS NOT NULL
    RETURNING waiters
), resolved AS (
    SELECT waiters FROM removed UNION ALL SELECT waiters FROM left_behind
)
SELECT CASE WHEN waiters THEN pg_notify('{table}', $12) END FROM resolved
