-- ?1 operation, ?2 id
UPDATE {table}_dead SET state = 'dead' WHERE operation = ?1 AND id = ?2
