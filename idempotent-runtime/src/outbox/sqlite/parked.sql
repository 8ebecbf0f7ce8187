-- ?1 how many at most
SELECT seq, id, topic, key, payload, headers, error, {now} - created_at
FROM {table}_outbox
WHERE state = 'parked'
ORDER BY seq
LIMIT ?1
