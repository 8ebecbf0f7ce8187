-- Takes a key that is vacant, or whose owner is gone. SQLite takes the file's write lock before it reads the row: the
-- conditions are about the very row that is overwritten, although another process may have taken it over since the caller
-- read it (look.sql).
-- ?1 operation, ?2 key, ?3 fingerprint, ?4 nonce, ?5 lease in ms, ?6 time to live in ms, ?7 true to take over,
-- ?8 NULL, or 1 in a transaction of the caller's: the claim has to be ended in it (see the schema)
-- ?9 arguments
-- A row if the claim was granted.
INSERT INTO {table} AS old
  (operation, key, state, fingerprint, nonce, fence, attempt, lease_until, expires_at, first_claimed_at, unended,
   arguments, completed_at)
VALUES
  (?1, ?2, 'running', ?3, ?4, max((SELECT fence_floor FROM {table}_schema) + 1, {now} * 1000), 1,
   {now} + ?5, {now} + ?5 + ?6, {now}, ?8, ?9, {now})
ON CONFLICT (operation, key) DO UPDATE SET
  state            = 'running',
  fingerprint      = excluded.fingerprint,
  nonce            = excluded.nonce,
  fence            = max(old.fence + 1, excluded.fence),
  attempt          = iif(old.expires_at <= {now}, 1, old.attempt + 1),
  lease_until      = excluded.lease_until,
  expires_at       = excluded.expires_at,
  first_claimed_at = iif(old.expires_at <= {now}, excluded.first_claimed_at, old.first_claimed_at),
  completed_at     = excluded.completed_at,
  result           = NULL,
  reason           = NULL,
  unended          = excluded.unended,
  arguments        = excluded.arguments
WHERE old.expires_at <= {now}
   OR (?7 AND old.fingerprint = excluded.fingerprint AND old.expires_at <= {now} + {held}
       AND (old.state = 'abandoned'
            OR (old.state = 'running' AND old.lease_until <= {now} AND old.nonce <> excluded.nonce)))
RETURNING fence, attempt
