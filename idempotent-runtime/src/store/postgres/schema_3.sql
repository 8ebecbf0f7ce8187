-- Version 3 of the schema: the words of the columns `state` and `reason` that SQLite has, too.
-- "{table}" is the validated name of the records' table.

-- First, since it takes time in a large table, and locks nothing but the rows that it changes.
UPDATE "{table}" SET state = 'not-kept', reason = replace(reason, '_', '-') WHERE state = 'unavailable';

-- Another name than version 2 has for it, and only claims have it: a process of version 2 that goes on is refused at its
-- next claim (42703), before it runs a body, and so writes its words no more. The runs that it has begun, it can end.
ALTER TABLE "{table}" RENAME COLUMN created_at TO first_claimed_at;

-- As before, and with the words of version 3 for the ends of such runs. Privileges on the view stay as they are.
CREATE OR REPLACE VIEW "{table}_view" AS
SELECT
    operation,
    key,
    CASE
        WHEN state = 'running' AND lease_until <= clock_timestamp() THEN 'lapsed'
        WHEN state = 'unavailable' THEN 'not-kept'
        ELSE state
    END AS state,
    attempt,
    first_claimed_at AS created_at,
    completed_at,
    lease_until,
    expires_at,
    "{table}_json"(result) AS result,
    octet_length(result) AS result_len,
    replace(reason, '_', '-') AS reason,
    encode(fingerprint, 'hex') AS fingerprint,
    "{table}_json"(arguments) AS arguments
FROM "{table}"
WHERE expires_at > clock_timestamp();
