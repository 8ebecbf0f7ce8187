patience AS MATERIALIZED (
    SELECT
        clock_timestamp() AS now,
        -- A claim that waits has a connection, which others need.
        set_config('lock_timeout', '50', true) AS ours,
        -- An answer means that the claim is on disk.
        CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END
), asked AS NOT MATERIALIZED (
    SELECT
        $1::text AS operation, $2::text AS key, $3::bytea AS fingerprint, $4::bytea AS nonce,
        $5::bigint AS lease, $6::bigint AS ttl, $8::bytea AS arguments, $9::text AS context, NULL::integer AS unended
)
