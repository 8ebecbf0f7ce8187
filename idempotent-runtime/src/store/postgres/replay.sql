-- $1 operation  $2 id of the letter
-- One row: true if the letter is to be replayed now. False if its key is another run's or message's. No row: it is not dead.
--
-- The letter's row is locked first: of two operators, one finds it dead. The record is compared under its own lock. It is
-- left as failed before its first attempt, so that its next run is the first one, and another payload is still a mismatch.
WITH {settings}, letter AS MATERIALIZED (
    SELECT id, key, fingerprint, payload IS NOT NULL AND key <> '' AS can_be_run FROM "{table}_dead", settings
    WHERE operation = $1 AND id = $2 AND state = 'dead'
    FOR UPDATE OF "{table}_dead"
), reopened AS (
    UPDATE "{table}" AS record SET
        state = 'failed',
        attempt = 0,
        failed = 0,
        before = NULL,
        since = clock_timestamp(),
        not_before = NULL,
        completed_at = NULL
    FROM letter
    WHERE letter.can_be_run AND record.operation = $1 AND record.key = letter.key AND record.fingerprint = letter.fingerprint
        AND record.state IN ('dead', 'exhausted') AND record.expires_at > clock_timestamp()
    RETURNING true
), marked AS (
    UPDATE "{table}_dead" AS dead SET state = 'replaying'
    FROM letter
    WHERE dead.id = letter.id AND letter.can_be_run
        AND (
            EXISTS (SELECT FROM reopened)
            -- Or it is vacant, or was left so by an earlier replay.
            OR NOT EXISTS (
                SELECT FROM "{table}" AS record
                WHERE record.operation = $1 AND record.key = letter.key AND record.expires_at > clock_timestamp()
                    AND NOT (record.state = 'failed' AND record.attempt = 0 AND record.fingerprint = letter.fingerprint)
            )
        )
    RETURNING true
)
SELECT EXISTS (SELECT FROM marked) FROM letter
