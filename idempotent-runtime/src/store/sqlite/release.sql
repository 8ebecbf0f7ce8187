-- Ends a run that leaves no record: one without a journal, or with ?4 a first run that never started.
-- ?1 operation, ?2 key, ?3 nonce, ?4 true if its body never started
-- A row if it was applied.
DELETE FROM {table}
WHERE operation = ?1 AND key = ?2 AND nonce = ?3 AND state = 'running' AND expires_at > {now}
  AND iif(?4, before IS NULL, NOT has_steps)
RETURNING 1
