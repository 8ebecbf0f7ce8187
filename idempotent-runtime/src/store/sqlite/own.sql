-- The first of the three statements that record a step. Renews the lease (see renew.sql), and says that there is a journal.
-- ?1 operation, ?2 key, ?3 nonce, ?4 lease in ms, ?5 time to live in ms
-- A row if the run is this claim's.
UPDATE {table} SET
  lease_until  = iif(completed_at > {now}, lease_until + {moved}, {now} + ?4),
  expires_at   = iif(completed_at > {now}, max(lease_until + {moved} + ?5, expires_at), {now} + ?4 + ?5),
  behind_until = iif(completed_at > {now}, {now} + ?4, NULL),
  completed_at = iif(completed_at > {now}, completed_at + {moved}, {now}),
  generation = coalesce(generation, nonce), has_steps = 1
WHERE operation = ?1 AND key = ?2 AND nonce = ?3 AND state = 'running' AND expires_at > {now}
RETURNING 1
