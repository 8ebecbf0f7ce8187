-- Version 1 of the schema.
-- "{table}" is the validated name of the records' table.
CREATE TABLE "{table}" (
    operation    text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    -- running, abandoned, or how it ended: ok, error, unavailable
    state        text NOT NULL,
    fingerprint  bytea NOT NULL,
    nonce        bytea NOT NULL,
    -- made when the owner first asks for it
    fence        bigint,
    attempt      integer NOT NULL,
    -- whether somebody wants to be notified of the end of the run
    waiters      boolean NOT NULL DEFAULT false,
    -- of running records only
    lease_until  timestamptz,
    expires_at   timestamptz NOT NULL,
    created_at   timestamptz NOT NULL,
    completed_at timestamptz,
    -- the bytes as the codec wrote them: jsonb would reorder keys and rewrite numbers
    result       bytea,
    -- why there is no result, where the state is unavailable
    reason       text,
    PRIMARY KEY (operation, key)
);

CREATE INDEX "{table}_expiry" ON "{table}" (expires_at);

-- One for all keys: it only rises, also across the removal of a key's record.
CREATE SEQUENCE "{table}_fence" AS bigint;

-- The result as JSON, NULL where it is something else.
CREATE FUNCTION "{table}_json"(result bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN convert_from(result, 'UTF8')::jsonb;
EXCEPTION WHEN others THEN
    RETURN NULL;
END
$$;

-- For people: results that can be read, and states as they are by now.
CREATE VIEW "{table}_view" AS
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
    encode(fingerprint, 'hex') AS fingerprint
FROM "{table}"
WHERE expires_at > clock_timestamp();
