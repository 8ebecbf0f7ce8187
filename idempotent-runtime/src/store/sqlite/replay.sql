-- The second: marks the letter, unless its key is another run's or message's.
-- ?1 operation, ?2 id
-- A row if it was applied.
UPDATE {table}_dead AS dead SET state = 'replaying'
WHERE operation = ?1 AND id = ?2 AND state = 'dead' AND key <> '' AND payload IS NOT NULL
  AND NOT EXISTS (
    SELECT 1 FROM {table} AS record
    WHERE record.operation = ?1 AND record.key = dead.key AND record.expires_at > {now}
      AND NOT (record.state = 'failed' AND record.attempt = 0 AND record.fingerprint = dead.fingerprint))
RETURNING 1
