-- Version 6 of the schema: who has, or had, a record. "{table}" is the validated name of the records' table.

ALTER TABLE "{table}"
    -- what the claim says of its caller, or the operator who has resolved the record. A process of version 5 that takes a
    -- record over leaves that of the claim before.
    ADD COLUMN context text;

-- As before, and the context last: privileges on the view stay as they are.
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
    life_began_at AS created_at,
    completed_at,
    lease_until,
    expires_at,
    "{table}_json"(result) AS result,
    octet_length(result) AS result_len,
    replace(reason, '_', '-') AS reason,
    encode(fingerprint, 'hex') AS fingerprint,
    "{table}_json"(arguments) AS arguments,
    failed,
    not_before,
    context
FROM "{table}"
WHERE expires_at > clock_timestamp();
