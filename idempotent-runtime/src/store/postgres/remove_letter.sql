-- $1 operation  $2 id  $3 NULL, or the state that it has
-- One row: removed.
WITH {settings}
DELETE FROM "{table}_dead" USING settings
WHERE operation = $1 AND id = $2 AND ($3::text IS NULL OR state = $3)
RETURNING true
