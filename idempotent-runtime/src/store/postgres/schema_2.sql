-- Version 2 of the schema: arguments.
-- "{table}" is the validated name of the records' table.

-- The request as JSON, where it is recorded.
ALTER TABLE "{table}" ADD COLUMN arguments bytea;

-- As before, and the arguments last: privileges on the view stay as they are.
CREATE OR REPLACE VIEW "{table}_view" AS
SELECT
    operation,
    key,
    CASE WHEN state = 'running' AND lease_until <= clock_timestamp() THEN 'lapsed' ELSE state END AS state,
    attempt,
    created_at,
    completed_at,
    lease_until,
    expires_at,
    "{table}_json"(result) AS result,
    octet_length(result) AS result_len,
    reason,
    encode(fingerprint, 'hex') AS fingerprint,
    "{table}_json"(arguments) AS arguments
FROM "{table}"
WHERE expires_at > clock_timestamp();
