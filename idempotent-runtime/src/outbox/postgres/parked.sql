-- $1 how many at most
SELECT seq, id::text, topic, key, payload, headers, error, (extract(epoch FROM clock_timestamp() - created_at) * 1000000)::bigint
FROM "{table}_outbox"
WHERE state = 'parked'
ORDER BY seq
LIMIT $1
