-- Version 2 of the schema: arguments. {table} is the configured name of the table.

-- The request as JSON, where it is recorded.
ALTER TABLE {table} ADD COLUMN arguments BLOB;

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
