-- $1 rows to leave out  $2 keys to leave out  $3 how many at most
-- Reads the first messages that are there. It does not go on behind the last one: a lower number may be committed later.
SELECT seq, id::text, topic, key, payload, headers
FROM "{table}_outbox"
WHERE state = 'ready' AND seq <> ALL ($1) AND (key IS NULL OR key <> ALL ($2))
ORDER BY seq
LIMIT $3
