-- Version 4 of the schema: suspended runs, the life of a key across its runs, and the journal of its steps. {table} is the
-- configured name of the table.
DROP VIEW {table}_view;

-- Another name than version 3 has for it, and only claims have it: a process of version 3 that goes on is refused at its
-- next claim, before it runs a body. The runs that it has begun, it can end.
ALTER TABLE {table} RENAME COLUMN first_claimed_at TO life_began_at;

-- The nonce of the claim that began the life; NULL where that is the nonce of this row.
ALTER TABLE {table} ADD COLUMN generation BLOB;
-- The runs that ended in an error, and left the key to a further run.
ALTER TABLE {table} ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
-- Of running records: the state that the claim took over, failed or abandoned; NULL where the key was vacant.
ALTER TABLE {table} ADD COLUMN before TEXT;
-- When the state began that is left to a further run; of running records: the one that the claim took over.
ALTER TABLE {table} ADD COLUMN since INTEGER;
-- The time before which no claim takes over.
ALTER TABLE {table} ADD COLUMN not_before INTEGER;
-- The end of the lease or of the pause by a clock that is behind the time in `completed_at`: it counts for as long as the
-- clock is.
ALTER TABLE {table} ADD COLUMN behind_until INTEGER;
-- 1 if there are steps of this generation.
ALTER TABLE {table} ADD COLUMN has_steps INTEGER NOT NULL DEFAULT 0;

-- By generation, so that the steps of one life of a key are never those of another.
CREATE TABLE {table}_steps (
  number     INTEGER PRIMARY KEY,   -- the order in which the steps of a life were recorded
  generation BLOB    NOT NULL,
  name       TEXT    NOT NULL,
  nonce      BLOB    NOT NULL,      -- of the claim that recorded the step
  result     BLOB,                  -- the bytes of the codec
  reason     TEXT,                  -- why there is no result: too-large, not-serializable
  UNIQUE (generation, name)
) STRICT;

CREATE TRIGGER {table}_removed AFTER DELETE ON {table} WHEN old.has_steps BEGIN
  DELETE FROM {table}_steps WHERE generation = old.generation;
END;

CREATE TRIGGER {table}_ended AFTER UPDATE OF has_steps ON {table} WHEN old.has_steps AND NOT new.has_steps BEGIN
  DELETE FROM {table}_steps WHERE generation = old.generation;
END;

-- As before, with the pauses and failures last, and without the time in `completed_at` that a record has before it is done.
CREATE VIEW {table}_view AS
SELECT operation, key,
       CASE
         WHEN state = 'running' AND {held_until} <= {now} THEN 'lapsed'
         WHEN state = 'err' THEN 'error'
         WHEN state = 'unavailable' THEN 'not-kept'
         ELSE state
       END AS state,
       attempt, fence, CAST(result AS TEXT) AS result, reason,
       datetime(life_began_at / 1000, 'unixepoch') AS created_at,
       iif(state IN ('running', 'failed', 'abandoned'), NULL, datetime(completed_at / 1000, 'unixepoch')) AS completed_at,
       datetime(lease_until / 1000, 'unixepoch') AS lease_until,
       datetime(expires_at / 1000, 'unixepoch') AS expires_at,
       CAST(arguments AS TEXT) AS arguments,
       failed,
       datetime(not_before / 1000, 'unixepoch') AS not_before
FROM {table};
