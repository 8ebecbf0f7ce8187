-- $1 id  $2 topic  $3 key  $4 payload  $5 headers  $6 digest
-- Inserts a message, unless it is there. If another one has its id, the check of the state fails the transaction.
-- One row: the transaction.
INSERT INTO "{table}_outbox" AS known (id, topic, key, payload, headers, digest)
VALUES ($1::uuid, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET state = CASE WHEN known.digest = excluded.digest THEN known.state ELSE 'conflict' END
RETURNING pg_current_xact_id()::text
