-- $1 operation  $2 the last id of the page before  $3 how many at most  $4 true for those alone that are replayed
SELECT
    id, operation, key, fingerprint, state = 'replaying', reason, attempts, error, message_id, kind, partition, headers, payload,
    (extract(epoch FROM clock_timestamp() - died_at) * 1000000)::bigint
FROM "{table}_dead"
WHERE operation = $1 AND id > $2 AND (NOT $4 OR state = 'replaying')
ORDER BY id
LIMIT $3
