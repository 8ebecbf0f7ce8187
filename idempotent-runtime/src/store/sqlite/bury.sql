-- The second of the two statements that end a run as dead (see die.sql): writes the letter, if the first one has ended
-- the run. A letter that was being replayed is dead again. One that was discarded since an earlier request is not written anew.
-- ?1 operation, ?2 key, ?3 fingerprint, ?4 reason, ?5 attempts, ?6 error, ?7 message id, ?8 kind, ?9 partition, ?10 headers,
-- ?11 payload
INSERT INTO {table}_dead
  (operation, key, fingerprint, reason, attempts, error, message_id, kind, partition, headers, payload, died_at)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, {now}
WHERE changes() > 0
ON CONFLICT (operation, key, fingerprint) DO UPDATE SET
  state = 'dead', reason = excluded.reason, attempts = excluded.attempts, error = excluded.error,
  payload = coalesce(payload, excluded.payload), died_at = excluded.died_at
