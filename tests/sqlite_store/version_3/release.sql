-- ?1 operation, ?2 key, ?3 nonce
-- A row if it was applied.
DELETE FROM {table} WHERE operation = ?1 AND key = ?2 AND nonce = ?3 AND state = 'running' RETURNING 1
