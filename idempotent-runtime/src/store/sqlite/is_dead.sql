-- ?1 operation, ?2 id
-- A row if the letter is dead.
SELECT 1 FROM {table}_dead WHERE operation = ?1 AND id = ?2 AND state = 'dead'
