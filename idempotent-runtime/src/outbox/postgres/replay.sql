-- $1 id
UPDATE "{table}_outbox" SET state = 'ready', error = NULL WHERE id = $1::uuid AND state = 'parked'
