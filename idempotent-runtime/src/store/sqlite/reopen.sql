-- The first of the two statements that have a letter replayed. Its record is left as failed before its first attempt, so that
-- its next run is the first one, and another payload is still a mismatch.
-- ?1 operation, ?2 id of the letter
-- A row if there was such a record.
UPDATE {table} SET
  state = 'failed', attempt = 0, failed = 0, before = NULL, since = {clock}, not_before = NULL, behind_until = NULL
WHERE state IN ('dead', 'exhausted') AND expires_at > {now} AND operation = ?1
  AND (key, fingerprint) = (SELECT key, fingerprint FROM {table}_dead WHERE operation = ?1 AND id = ?2 AND state = 'dead' AND payload IS NOT NULL)
RETURNING 1
