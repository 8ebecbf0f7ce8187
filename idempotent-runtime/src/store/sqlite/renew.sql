-- Renews a lease. While the clock is behind, the lease ends by this clock in `behind_until`, and the other times move on by
-- as much as that does: when the clock is right again, they are as if it had always been.
-- ?1 operation, ?2 key, ?3 nonce, ?4 lease in ms, ?5 time to live in ms
-- A row if it was applied.
UPDATE {table} SET
  lease_until  = iif(completed_at > {now}, lease_until + {moved}, {now} + ?4),
  expires_at   = iif(completed_at > {now}, max(lease_until + {moved} + ?5, expires_at), {now} + ?4 + ?5),
  behind_until = iif(completed_at > {now}, {now} + ?4, NULL),
  completed_at = iif(completed_at > {now}, completed_at + {moved}, {now})
WHERE operation = ?1 AND key = ?2 AND nonce = ?3 AND state = 'running' AND expires_at > {now}
RETURNING 1
