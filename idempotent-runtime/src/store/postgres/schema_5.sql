-- Version 5 of the schema: dead letters and the outbox. "{table}" is the validated name of the records' table.

-- A message that is given up. It outlives its record, and goes when it was worked off again, or is discarded.
CREATE TABLE "{table}_dead" (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation   text COLLATE "C" NOT NULL,
    -- of its record; empty where the message has no id
    key         text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    -- dead, or replaying: a consumer is to work it off again
    state       text NOT NULL DEFAULT 'dead',
    -- permanent, exhausted, conflict, no-id, too-large
    reason      text NOT NULL,
    attempts    integer NOT NULL,
    error       text,
    message_id  text,
    kind        text,
    partition   text,
    -- a JSON array of pairs
    headers     text,
    payload     bytea,
    died_at     timestamptz NOT NULL,
    UNIQUE (operation, key, fingerprint)
);

-- For consumers, which look for these: most letters are just dead.
CREATE INDEX "{table}_replaying" ON "{table}_dead" (operation, id) WHERE state = 'replaying';
CREATE INDEX "{table}_letters" ON "{table}_dead" (operation, id);

-- A message on its way to a broker. It goes when the broker has confirmed it.
CREATE TABLE "{table}_outbox" (
    -- the order of insertion
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         uuid NOT NULL CONSTRAINT "{table}_outbox_id" UNIQUE,
    topic      text NOT NULL,
    key        text COLLATE "C",
    payload    bytea NOT NULL,
    -- a JSON array of pairs
    headers    text,
    -- the hash of what it says
    digest     bytea NOT NULL,
    -- ready, or parked: the broker will never take it. A second message with its id and other content fails the check.
    state      text NOT NULL DEFAULT 'ready' CONSTRAINT "{table}_outbox_one_content" CHECK (state IN ('ready', 'parked')),
    error      text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX "{table}_parked" ON "{table}_outbox" (seq) WHERE state = 'parked';

-- One row at most: the lease of the relay that is at work.
CREATE TABLE "{table}_relay" (
    id          integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    nonce       bytea NOT NULL,
    leased_at   timestamptz NOT NULL,
    lease_until timestamptz NOT NULL
);
