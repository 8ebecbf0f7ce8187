-- The first of the two statements that end a run as dead. The journal stays: a replay does not repeat steps.
-- ?1 operation, ?2 key, ?3 nonce, ?4 dead or exhausted, ?5 time to live in ms
-- A row if it was applied.
UPDATE {table} SET
  state = ?4, result = NULL, reason = NULL, lease_until = NULL, behind_until = NULL, unended = NULL,
  completed_at = {clock}, expires_at = {clock} + ?5
WHERE operation = ?1 AND key = ?2 AND nonce = ?3 AND state = 'running' AND expires_at > {now}
RETURNING 1
