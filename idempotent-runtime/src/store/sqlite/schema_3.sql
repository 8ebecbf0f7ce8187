-- Version 3 of the schema: the words of the columns `state` and `reason` that PostgreSQL has, too. {table} is the
-- configured name of the table.
--
-- SQLite cannot change a CHECK, so the table is copied. Hits read on meanwhile, from the file as it was before; claims
-- and ends wait for the write lock.
DROP VIEW {table}_view;
CREATE TABLE {table}_version_3 (
  id               INTEGER PRIMARY KEY,   -- where a listing goes on
  operation        TEXT    NOT NULL,
  key              TEXT    NOT NULL,
  -- running, abandoned, or how it ended: ok, error, not-kept. No CHECK: a later word would need another copy.
  state            TEXT    NOT NULL,
  fingerprint      BLOB    NOT NULL,
  nonce            BLOB    NOT NULL,      -- of the owner; of the last owner once the run has ended
  fence            INTEGER NOT NULL,
  attempt          INTEGER NOT NULL,
  lease_until      INTEGER,               -- times are in ms since 1970; only a running record has a lease
  expires_at       INTEGER NOT NULL,
  -- Another name than version 2 has for it, and only claims have it: a process of version 2 that goes on is refused at
  -- its next claim, before it runs a body, and so writes its words no more. The runs that it has begun, it can end.
  first_claimed_at INTEGER NOT NULL,
  completed_at     INTEGER,
  result           BLOB,                  -- ok, error: the bytes of the codec, as they are replayed
  reason           TEXT,                  -- not-kept: why
  arguments        BLOB,                  -- the request as JSON, where it is recorded
  unended          INTEGER REFERENCES {table}_never (id) DEFERRABLE INITIALLY DEFERRED,
  UNIQUE (operation, key)
) STRICT;
INSERT INTO {table}_version_3
SELECT id, operation, key, CASE state WHEN 'err' THEN 'error' WHEN 'unavailable' THEN 'not-kept' ELSE state END,
       fingerprint, nonce, fence, attempt, lease_until, expires_at, created_at, completed_at, result, reason, arguments,
       unended
FROM {table};
-- Drops its index and its trigger as well. The trigger does not fire: the fence floor stays.
DROP TABLE {table};
ALTER TABLE {table}_version_3 RENAME TO {table};

-- For purges.
CREATE INDEX {table}_expiry ON {table} (expires_at);

CREATE TRIGGER {table}_fence AFTER DELETE ON {table} BEGIN
  UPDATE {table}_schema SET fence_floor = old.fence WHERE fence_floor < old.fence;
END;

-- As before, with states as they are by now, and the words of version 3 for the ends of runs that version 2 began.
CREATE VIEW {table}_view AS
SELECT operation, key,
       CASE
         WHEN state = 'running' AND lease_until <= {now} THEN 'lapsed'
         WHEN state = 'err' THEN 'error'
         WHEN state = 'unavailable' THEN 'not-kept'
         ELSE state
       END AS state,
       attempt, fence, CAST(result AS TEXT) AS result, reason,
       datetime(first_claimed_at / 1000, 'unixepoch') AS created_at,
       datetime(completed_at / 1000, 'unixepoch') AS completed_at,
       datetime(lease_until / 1000, 'unixepoch') AS lease_until,
       datetime(expires_at / 1000, 'unixepoch') AS expires_at,
       CAST(arguments AS TEXT) AS arguments
FROM {table};
