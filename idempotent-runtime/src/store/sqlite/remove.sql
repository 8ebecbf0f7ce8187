-- Removes a record for an operator, if it is the one that was seen.
-- ?1 operation, ?2 key, ?3 the owner that was seen, ?4 the state that was seen, ?5 true if a live run is removed, too
-- A row if it was applied.
DELETE FROM {table}
WHERE operation = ?1 AND key = ?2 AND nonce = ?3 AND state = ?4 AND expires_at > {now}
  AND (?5 OR state <> 'running' OR coalesce({held_until} <= {now}, false))
RETURNING 1
