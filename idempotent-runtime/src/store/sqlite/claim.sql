-- Takes a key that is vacant, or whose owner is gone. SQLite takes the file's write lock before it reads the row: the
-- conditions are about the very row that is overwritten, although another process may have taken it over since the caller
-- read it (look.sql).
-- ?1 operation, ?2 key, ?3 fingerprint, ?4 nonce, ?5 lease in ms, ?6 time to live in ms,
-- ?7 how long in ms an abandoned or lapsed record may still be kept, for this claim to take it over
-- ?8 NULL, or 1 in a transaction of the caller's: the claim has to be ended in it (see the schema)
-- ?9 arguments, ?10 context
-- ?11 the time before the claim began to wait for the lock, in ms since 1970. A lease that has ended since is not over:
-- its owner could not renew it either.
-- A row if the claim was granted.
INSERT INTO {table} AS old
  (operation, key, state, fingerprint, nonce, fence, attempt, lease_until, expires_at, life_began_at, unended,
   arguments, context, completed_at)
VALUES
  (?1, ?2, 'running', ?3, ?4, max((SELECT fence_floor FROM {table}_schema) + 1, {now} * 1000), 1,
   {now} + ?5, {now} + ?5 + ?6, {now}, ?8, ?9, ?10, {now})
ON CONFLICT (operation, key) DO UPDATE SET
  state         = 'running',
  fingerprint   = excluded.fingerprint,
  nonce         = excluded.nonce,
  fence         = max(old.fence + 1, excluded.fence),
  attempt       = iif(old.expires_at <= {now}, 1, old.attempt + 1),
  lease_until   = excluded.lease_until,
  expires_at    = excluded.expires_at,
  life_began_at = iif(old.expires_at <= {now}, excluded.life_began_at, old.life_began_at),
  completed_at  = excluded.completed_at,
  result        = NULL,
  reason        = NULL,
  unended       = excluded.unended,
  arguments     = excluded.arguments,
  context       = excluded.context,
  generation    = iif(old.expires_at <= {now}, NULL, coalesce(old.generation, old.nonce)),
  failed        = iif(old.expires_at <= {now}, 0, old.failed),
  before        = CASE WHEN old.expires_at <= {now} THEN NULL WHEN old.state = 'failed' THEN 'failed' ELSE 'abandoned' END,
  -- Version 3 did not write when a run was abandoned.
  since         = CASE
    WHEN old.expires_at <= {now} THEN NULL
    WHEN old.state = 'running' THEN coalesce({held_until}, {now})
    ELSE coalesce({now} - ({clock} - old.since), {now})
  END,
  not_before    = NULL,
  behind_until  = NULL,
  has_steps     = old.has_steps AND old.expires_at > {now}
WHERE old.expires_at <= {now}
   OR (old.fingerprint = excluded.fingerprint AND old.nonce <> excluded.nonce
       AND coalesce({held_until} <= min({now}, ?11), lease_until IS NULL AND not_before IS NULL)
       AND (old.state = 'failed'
            OR (old.expires_at <= {clock} + ?7 AND old.state IN ('abandoned', 'running'))))
RETURNING fence, attempt, coalesce(generation, nonce) AS generation, before, {now} - since AS since_ms, failed, has_steps
