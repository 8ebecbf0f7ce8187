-- Writes a letter that has no run, once.
-- ?1 operation, ?2 key, ?3 fingerprint, ?4 reason, ?5 attempts, ?6 error, ?7 message id, ?8 kind, ?9 partition, ?10 headers,
-- ?11 payload
INSERT INTO {table}_dead
  (operation, key, fingerprint, reason, attempts, error, message_id, kind, partition, headers, payload, died_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, {now})
ON CONFLICT (operation, key, fingerprint) DO NOTHING
