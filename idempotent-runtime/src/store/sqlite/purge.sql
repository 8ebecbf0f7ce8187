-- ?1 how many at most
-- A row for each that was removed.
DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE expires_at <= {now} ORDER BY expires_at LIMIT ?1)
RETURNING 1
