-- ?1 operation, ?2 key, ?3 nonce, ?4 state, ?5 result, ?6 reason, ?7 time to live in ms
-- A row if it was applied.
UPDATE {table} SET
  state = ?4, result = ?5, reason = ?6, lease_until = NULL, unended = NULL,
  completed_at = {now}, expires_at = {now} + ?7
WHERE operation = ?1 AND key = ?2 AND nonce = ?3 AND state = 'running' AND expires_at > {now}
RETURNING 1
