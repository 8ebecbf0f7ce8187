-- Version 5 of the schema: dead letters and the outbox. {table} is the configured name of the table.

-- A message that is given up. It outlives its record, and goes when it was worked off again, or is discarded.
CREATE TABLE {table}_dead (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  operation   TEXT    NOT NULL,
  key         TEXT    NOT NULL,      -- of its record; empty where the message has no id
  fingerprint BLOB    NOT NULL,
  state       TEXT    NOT NULL DEFAULT 'dead',   -- dead, or replaying: a consumer is to work it off again
  reason      TEXT    NOT NULL,      -- permanent, exhausted, conflict, no-id, too-large
  attempts    INTEGER NOT NULL,
  error       TEXT,
  message_id  TEXT,
  kind        TEXT,
  partition   TEXT,
  headers     TEXT,                  -- a JSON array of pairs
  payload     BLOB,
  died_at     INTEGER NOT NULL,      -- in ms since 1970
  UNIQUE (operation, key, fingerprint)
) STRICT;

-- For consumers, which look for these: most letters are just dead.
CREATE INDEX {table}_replaying ON {table}_dead (operation, id) WHERE state = 'replaying';
CREATE INDEX {table}_letters ON {table}_dead (operation, id);

-- A message on its way to a broker. It goes when the broker has confirmed it.
CREATE TABLE {table}_outbox (
  seq        INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of insertion; never given out twice
  id         TEXT    NOT NULL UNIQUE,
  topic      TEXT    NOT NULL,
  key        TEXT,
  payload    BLOB    NOT NULL,
  headers    TEXT,                  -- a JSON array of pairs
  digest     BLOB    NOT NULL,      -- the hash of what it says
  state      TEXT    NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'parked')),  -- parked: the broker will never take it
  error      TEXT,
  created_at INTEGER NOT NULL,      -- in ms since 1970
  -- Set by a second message with its id and other content: it refers to nothing, so that this cannot be committed.
  conflict   INTEGER REFERENCES {table}_never (id) DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE INDEX {table}_parked ON {table}_outbox (seq) WHERE state = 'parked';

-- One row at most: the lease of the relay that is at work. Times are in ms since 1970.
CREATE TABLE {table}_relay (
  id          INTEGER PRIMARY KEY CHECK (id = 1),
  nonce       BLOB    NOT NULL,
  leased_at   INTEGER NOT NULL,
  lease_until INTEGER NOT NULL
) STRICT;
