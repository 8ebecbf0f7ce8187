-- $1 nonce  $2 lease in µs
-- Takes or renews the lease. One row if it is ours: the age of the first message in µs, NULL where there is none.
-- A lease that was taken in the future is over: the clock has gone back.
WITH ours AS (
    INSERT INTO "{table}_relay" AS held (nonce, leased_at, lease_until)
    VALUES ($1, clock_timestamp(), clock_timestamp() + $2 * interval '1 microsecond')
    ON CONFLICT (id) DO UPDATE SET
        nonce = excluded.nonce, leased_at = excluded.leased_at, lease_until = excluded.lease_until
    WHERE held.nonce = excluded.nonce OR held.lease_until <= clock_timestamp() OR held.leased_at > clock_timestamp()
    RETURNING nonce
)
SELECT (
    SELECT (extract(epoch FROM clock_timestamp() - created_at) * 1000000)::bigint
    FROM "{table}_outbox" WHERE state = 'ready' ORDER BY seq LIMIT 1
) FROM ours
