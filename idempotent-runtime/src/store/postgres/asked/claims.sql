patience AS MATERIALIZED (
    SELECT
        clock_timestamp() AS now,
        set_config('lock_timeout', '50', true) AS ours,
        CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END
), asked AS MATERIALIZED (
    SELECT
        operation, key, fingerprint, nonce, lease, ttl, arguments, context, NULL::integer AS unended
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bigint[], $8::bytea[], $9::text[])
        AS asked (operation, key, fingerprint, nonce, lease, ttl, arguments, context)
)
