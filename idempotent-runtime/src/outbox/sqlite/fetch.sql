-- ?1 rows to leave out, ?2 keys to leave out: JSON arrays, ?3 how many at most
-- Reads the first messages that are there.
SELECT seq, id, topic, key, payload, headers
FROM {table}_outbox
WHERE state = 'ready'
  AND seq NOT IN (SELECT value FROM json_each(?1))
  AND (key IS NULL OR key NOT IN (SELECT value FROM json_each(?2)))
ORDER BY seq
LIMIT ?3
