-- $10 for how many ms to wait for another transaction that has the key
-- The caller's own lock_timeout is set aside before anything is locked, and is back when the statement ends; an error takes the
-- transaction back to where it was set. That the claim is on disk is the caller's to say. It has to be ended in its
-- transaction: see the schema.
patience AS MATERIALIZED (
    SELECT clock_timestamp() AS now, callers, set_config('lock_timeout', $10::text, true) AS ours
    FROM (SELECT current_setting('lock_timeout') AS callers OFFSET 0) AS setting
), asked AS NOT MATERIALIZED (
    SELECT
        $1::text AS operation, $2::text AS key, $3::bytea AS fingerprint, $4::bytea AS nonce,
        $5::bigint AS lease, $6::bigint AS ttl, $8::bytea AS arguments, $9::text AS context, 1 AS unended
)
