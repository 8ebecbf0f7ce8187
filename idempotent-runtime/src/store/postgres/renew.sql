-- $1 operation  $2 key  $3 nonce  $4 lease in µs  $5 time to live in µs
-- One row: renewed.
WITH {settings}
UPDATE "{table}" SET
    lease_until = clock_timestamp() + $4 * interval '1 microsecond',
    expires_at = clock_timestamp() + ($4 + $5) * interval '1 microsecond'
FROM settings
WHERE operation = $1 AND key = $2 AND nonce = $3 AND state = 'running' AND expires_at > clock_timestamp()
RETURNING true
