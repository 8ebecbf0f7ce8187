-- $1 operation  $2 key  $3 nonce  $4 what waiters are notified with
-- One row: released now.
WITH {settings}, released AS (
    DELETE FROM "{table}" USING settings
    WHERE operation = $1 AND key = $2 AND nonce = $3 AND state = 'running' AND expires_at > clock_timestamp()
    RETURNING waiters
)
SELECT CASE WHEN waiters THEN pg_notify('{table}', $4) END FROM released
