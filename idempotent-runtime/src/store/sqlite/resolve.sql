-- Leaves a record as an operator says, if it is the one that was seen. A failed one is as before its first run, with its
-- journal.
-- ?1 operation, ?2 key, ?3 the owner that was seen, ?4 the state that was seen, ?5 true if a live run is resolved, too,
-- ?6 the owner from here on, ?7 the state from here on, ?8 result, ?9 reason, ?10 how long to keep it in ms, ?11 context
-- A row if it was applied.
UPDATE {table} SET
  state        = ?7,
  nonce        = ?6,
  generation   = coalesce(generation, nonce),
  result       = ?8,
  reason       = ?9,
  context      = ?11,
  attempt      = iif(?7 = 'failed', 0, attempt),
  failed       = iif(?7 = 'failed', 0, failed),
  before       = NULL,
  since        = {clock},
  not_before   = NULL,
  behind_until = NULL,
  lease_until  = NULL,
  unended      = NULL,
  has_steps    = has_steps AND ?7 = 'failed',
  completed_at = {clock},
  expires_at   = {clock} + ?10
WHERE operation = ?1 AND key = ?2 AND nonce = ?3 AND state = ?4 AND expires_at > {now}
  AND (?5 OR state <> 'running' OR coalesce({held_until} <= {now}, false))
RETURNING 1
