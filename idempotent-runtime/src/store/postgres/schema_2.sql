-- Version 2 of the schema: arguments, and claims in transactions of the caller's.
-- "{table}" is the validated name of the records' table.

-- The request as JSON, where it is recorded.
ALTER TABLE "{table}" ADD COLUMN arguments bytea;

-- Never has a row: a claim in a caller's transaction refers to one until it is ended, and what refers to nothing cannot
-- be committed. A call that is dropped half-way so takes its transaction with it.
CREATE TABLE "{table}_never" (id integer PRIMARY KEY CHECK (false));
ALTER TABLE "{table}" ADD COLUMN unended integer CONSTRAINT "{table}_call_has_ended" REFERENCES "{table}_never" (id)
    DEFERRABLE INITIALLY DEFERRED;

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
