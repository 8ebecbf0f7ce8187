-- $1 operation  $2 key  $3 nonce  $4 lease in µs  $5 time to live in µs  $6 name of the step  $7 result  $8 reason
-- One row: true if the step is recorded, now or by an earlier request of this claim; false with the value that an earlier
-- claim has recorded. NULL if this very request, sent twice, was committed after the snapshot: ask again. No row: the
-- run is not this claim's.
--
-- The record's row is locked before the step is looked for, and an earlier claim cannot have recorded one since this claim
-- was granted: only its own request can be missing from the snapshot.
WITH {settings}, owner AS (
    UPDATE "{table}" SET
        lease_until = clock_timestamp() + $4 * interval '1 microsecond',
        expires_at = clock_timestamp() + ($4 + $5) * interval '1 microsecond',
        generation = coalesce(generation, nonce),
        has_steps = true
    FROM settings
    WHERE operation = $1 AND key = $2 AND nonce = $3 AND state = 'running' AND expires_at > clock_timestamp()
    RETURNING generation
), recorded AS (
    INSERT INTO "{table}_steps" (generation, name, nonce, result, reason)
    SELECT generation, $6, $3, $7, $8 FROM owner
    ON CONFLICT (generation, name) DO NOTHING
    RETURNING true
)
SELECT EXISTS (SELECT FROM recorded) OR step.nonce = $3, step.result, step.reason
FROM owner LEFT JOIN "{table}_steps" AS step ON step.generation = owner.generation AND step.name = $6
