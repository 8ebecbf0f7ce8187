-- ?1 rows: a JSON array
DELETE FROM {table}_outbox WHERE seq IN (SELECT value FROM json_each(?1))
