-- Version 1 of the schema. {table} is the configured name of the table.
CREATE TABLE {table} (
  id           INTEGER PRIMARY KEY,   -- where a listing goes on
  operation    TEXT    NOT NULL,
  key          TEXT    NOT NULL,
  state        TEXT    NOT NULL CHECK (state IN ('running', 'abandoned', 'ok', 'err', 'unavailable')),
  fingerprint  BLOB    NOT NULL,
  nonce        BLOB    NOT NULL,      -- of the owner; of the last owner once the run has ended
  fence        INTEGER NOT NULL,
  attempt      INTEGER NOT NULL,
  lease_until  INTEGER,               -- times are in ms since 1970; only a running record has a lease
  expires_at   INTEGER NOT NULL,
  created_at   INTEGER NOT NULL,
  completed_at INTEGER,
  result       BLOB,                  -- ok, err: the bytes of the codec, as they are replayed
  reason       TEXT,                  -- unavailable: why
  UNIQUE (operation, key)
) STRICT;

-- For purges.
CREATE INDEX {table}_expiry ON {table} (expires_at);

-- One row: the version of this schema, and the highest fence of a record that is gone, so that fences rise although
-- records go.
CREATE TABLE {table}_schema (version INTEGER NOT NULL, fence_floor INTEGER NOT NULL) STRICT;
INSERT INTO {table}_schema VALUES (1, 0);

CREATE TRIGGER {table}_fence AFTER DELETE ON {table} BEGIN
  UPDATE {table}_schema SET fence_floor = old.fence WHERE fence_floor < old.fence;
END;

-- For people: times and results as text. Includes records that have expired and are not purged yet.
CREATE VIEW {table}_view AS
SELECT operation, key, state, attempt, fence, CAST(result AS TEXT) AS result, reason,
       datetime(created_at / 1000, 'unixepoch') AS created_at,
       datetime(completed_at / 1000, 'unixepoch') AS completed_at,
       datetime(lease_until / 1000, 'unixepoch') AS lease_until,
       datetime(expires_at / 1000, 'unixepoch') AS expires_at
FROM {table};
