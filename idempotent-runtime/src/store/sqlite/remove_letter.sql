-- ?1 operation, ?2 id, ?3 NULL, or the state that it has
-- A row if it was removed.
DELETE FROM {table}_dead WHERE operation = ?1 AND id = ?2 AND (?3 IS NULL OR state = ?3) RETURNING 1
