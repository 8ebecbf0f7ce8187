-- ?1 rows with their errors: a JSON array of pairs
UPDATE {table}_outbox SET state = 'parked', error = refused.value ->> 1
FROM json_each(?1) AS refused
WHERE {table}_outbox.seq = refused.value ->> 0
