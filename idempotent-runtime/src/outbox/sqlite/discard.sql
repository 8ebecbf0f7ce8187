-- ?1 id
DELETE FROM {table}_outbox WHERE id = ?1 AND state = 'parked'
