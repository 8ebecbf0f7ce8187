-- Ends a run without an outcome, and leaves the key to a further run.
-- ?1 operation, ?2 key, ?3 nonce, ?4 failed, abandoned, or unstarted (as it was before the claim),
-- ?5 NULL, or how long in ms nobody may take over, ?6 how long in ms it is kept after that
-- A row if it was applied.
UPDATE {table} SET
  state        = iif(?4 = 'unstarted', before, ?4),
  attempt      = iif(?4 = 'unstarted', attempt - 1, attempt),
  failed       = iif(?4 = 'failed', failed + 1, failed),
  since        = iif(?4 = 'unstarted', since, {clock}),
  before       = NULL,
  not_before   = {clock} + ?5,
  behind_until = iif(completed_at > {now}, {now} + ?5, NULL),
  lease_until  = NULL,
  completed_at = {clock},
  expires_at   = {clock} + coalesce(?5, 0) + ?6
WHERE operation = ?1 AND key = ?2 AND nonce = ?3 AND state = 'running' AND expires_at > {now}
  AND (?4 <> 'unstarted' OR before IS NOT NULL)
RETURNING 1
