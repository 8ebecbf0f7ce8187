-- Version 6 of the schema: who has, or had, a record. {table} is the configured name of the table.
DROP VIEW {table}_view;

-- What the claim says of its caller, or the operator who has resolved the record. A process of version 5 that takes a record
-- over leaves that of the claim before.
ALTER TABLE {table} ADD COLUMN context TEXT;

-- As before, with the context last.
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
       datetime(not_before / 1000, 'unixepoch') AS not_before,
       context
FROM {table};
