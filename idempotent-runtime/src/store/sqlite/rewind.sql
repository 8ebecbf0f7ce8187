-- The machine's clock has gone back since the record's ends were set: they are as far away again as they were then.
-- ?1 operation, ?2 key
-- A row if it was changed.
UPDATE {table} SET
  lease_until  = {now} + (lease_until - completed_at),
  expires_at   = {now} + (expires_at - completed_at),
  completed_at = {now}
WHERE operation = ?1 AND key = ?2 AND completed_at > {now}
RETURNING 1
