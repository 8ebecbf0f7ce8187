-- Version 2 of the schema: arguments, and claims in transactions of the caller's. {table} is the configured name of the table.

-- The request as JSON, where it is recorded.
ALTER TABLE {table} ADD COLUMN arguments BLOB;

-- Never has a row: a claim in a caller's transaction refers to one until it is ended, and what refers to nothing cannot
-- be committed. A call that is dropped half-way so takes its transaction with it. Needs `foreign_keys`.
CREATE TABLE {table}_never (id INTEGER PRIMARY KEY CHECK (false)) STRICT;
ALTER TABLE {table} ADD COLUMN unended INTEGER REFERENCES {table}_never (id) DEFERRABLE INITIALLY DEFERRED;

-- As before, and the arguments.
DROP VIEW {table}_view;
CREATE VIEW {table}_view AS
SELECT operation, key, state, attempt, fence, CAST(result AS TEXT) AS result, reason,
       datetime(created_at / 1000, 'unixepoch') AS created_at,
       datetime(completed_at / 1000, 'unixepoch') AS completed_at,
       datetime(lease_until / 1000, 'unixepoch') AS lease_until,
       datetime(expires_at / 1000, 'unixepoch') AS expires_at,
       CAST(arguments AS TEXT) AS arguments
FROM {table};
