-- ?1 id, ?2 topic, ?3 key, ?4 payload, ?5 headers, ?6 digest
-- Inserts a message, unless it is there. If another one has its id, the transaction cannot be committed.
-- One row: its number, and 1 if there is such a conflict.
INSERT INTO {table}_outbox (id, topic, key, payload, headers, digest, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, {now})
ON CONFLICT (id) DO UPDATE SET conflict = iif(digest = excluded.digest, conflict, 1)
RETURNING seq, conflict
