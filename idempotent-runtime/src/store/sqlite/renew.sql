-- ?1 operation, ?2 key, ?3 nonce, ?4 lease in ms, ?5 time to live in ms
-- A row if it was applied.
UPDATE {table} SET completed_at = {now}, lease_until = {now} + ?4, expires_at = {now} + ?4 + ?5
WHERE operation = ?1 AND key = ?2 AND nonce = ?3 AND state = 'running' AND expires_at > {now}
RETURNING 1
