-- ?1 operation, ?2 key, ?3 nonce, ?4 time to live in ms
-- A row if it was applied.
UPDATE {table} SET state = 'abandoned', completed_at = {now}, lease_until = NULL, expires_at = {now} + ?4
WHERE operation = ?1 AND key = ?2 AND nonce = ?3 AND state = 'running' AND expires_at > {now}
RETURNING 1
