-- ?1 operation, ?2 key, ?3 nonce, ?4 state, ?5 result, ?6 reason, ?7 time to live in ms
-- A row if it was applied. The journal goes with the run, by a trigger: see the schema. That of an
-- exhausted key stays: an operator may have it run again, after its last step.
UPDATE {table} SET
  state = ?4, result = ?5, reason = ?6, lease_until = NULL, behind_until = NULL, unended = NULL,
  has_steps = has_steps AND ?4 = 'exhausted',
  completed_at = {clock}, expires_at = {clock} + ?7
WHERE operation = ?1 AND key = ?2 AND nonce = ?3 AND state = 'running' AND expires_at > {now}
RETURNING 1
