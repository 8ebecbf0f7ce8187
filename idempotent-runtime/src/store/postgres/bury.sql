-- $1 operation  $2 key  $3 nonce  $4 the state that it ends in  $5 time to live in µs  $6 what waiters are notified with
-- $7 fingerprint  $8 reason  $9 attempts  $10 error  $11 message id  $12 kind  $13 partition  $14 headers  $15 payload
-- Ends a run and writes its message's letter. One row: ended now. A letter that was being replayed is dead again.
-- The journal stays: a replay does not repeat steps.
WITH {settings}, ended AS (
    UPDATE "{table}" SET
        state = $4,
        result = NULL,
        reason = NULL,
        lease_until = NULL,
        unended = NULL,
        completed_at = clock_timestamp(),
        expires_at = clock_timestamp() + $5 * interval '1 microsecond'
    FROM settings
    WHERE operation = $1 AND key = $2 AND nonce = $3 AND state = 'running' AND expires_at > clock_timestamp()
    RETURNING waiters
), buried AS (
    INSERT INTO "{table}_dead" AS dead
        (operation, key, fingerprint, reason, attempts, error, message_id, kind, partition, headers, payload, died_at)
    SELECT $1, $2, $7, $8, $9, $10, $11, $12, $13, $14, $15, clock_timestamp() FROM ended
    ON CONFLICT (operation, key, fingerprint) DO UPDATE SET
        state = 'dead', reason = excluded.reason, attempts = excluded.attempts, error = excluded.error,
        payload = coalesce(dead.payload, excluded.payload), died_at = excluded.died_at
)
SELECT CASE WHEN waiters THEN pg_notify('{table}', $6) END FROM ended
