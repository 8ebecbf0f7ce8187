-- $1 rows
DELETE FROM "{table}_outbox" WHERE seq = ANY ($1)
