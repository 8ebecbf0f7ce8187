-- Ends a run without an outcome.
-- $1 operation  $2 key  $3 nonce
-- $4 failed, abandoned, unstarted (as it was before the claim), or released (as if the run had never been)
-- $5 NULL, or how long in µs nobody may take over  $6 how long in µs it is kept after that
-- $7 what waiters are notified with
--
-- One row: ended now. A first run that never started leaves no record, and neither does a released one, unless it has
-- a journal: what its steps did has happened, so it is left as failed. Each part changes the row only where the other one
-- does not.
WITH {settings}, removed AS (
    DELETE FROM "{table}" USING settings
    WHERE operation = $1 AND key = $2 AND nonce = $3 AND state = 'running' AND expires_at > clock_timestamp()
        AND CASE $4 WHEN 'unstarted' THEN before IS NULL WHEN 'released' THEN NOT has_steps ELSE false END
    RETURNING waiters
), suspended AS (
    UPDATE "{table}" SET
        state = CASE $4 WHEN 'unstarted' THEN before WHEN 'released' THEN 'failed' ELSE $4 END,
        attempt = CASE WHEN $4 = 'unstarted' THEN attempt - 1 ELSE attempt END,
        failed = CASE WHEN $4 IN ('failed', 'released') THEN failed + 1 ELSE failed END,
        since = CASE WHEN $4 = 'unstarted' THEN since ELSE clock_timestamp() END,
        before = NULL,
        not_before = clock_timestamp() + $5 * interval '1 microsecond',
        lease_until = NULL,
        unended = NULL,
        expires_at = clock_timestamp() + (coalesce($5, 0) + $6) * interval '1 microsecond'
    FROM settings
    WHERE operation = $1 AND key = $2 AND nonce = $3 AND state = 'running' AND expires_at > clock_timestamp()
        AND CASE $4 WHEN 'unstarted' THEN before IS NOT NULL WHEN 'released' THEN has_steps ELSE true END
    RETURNING waiters
), ended AS (
    SELECT waiters FROM removed UNION ALL SELECT waiters FROM suspended
)
SELECT CASE WHEN waiters THEN pg_notify('{table}', $7) END FROM ended
