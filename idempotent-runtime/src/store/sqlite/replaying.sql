-- ?1 operation, ?2 the last id of the page before, ?3 how many at most
SELECT id, operation, key, fingerprint, true, reason, attempts, error, message_id, kind, partition, headers,
       payload, max({now} - died_at, 0)
FROM {table}_dead
WHERE operation = ?1 AND state = 'replaying' AND id > ?2
ORDER BY id LIMIT ?3
