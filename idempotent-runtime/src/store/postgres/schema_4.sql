-- Version 4 of the schema: suspended runs, the life of a key across its runs, and the journal of its steps.
-- "{table}" is the validated name of the records' table.

-- Another name than version 3 has for it, and only claims have it: a process of version 3 that goes on is refused at its
-- next claim (42703), before it runs a body. The runs that it has begun, it can end.
ALTER TABLE "{table}" RENAME COLUMN first_claimed_at TO life_began_at;

ALTER TABLE "{table}"
    -- the nonce of the claim that began the life; NULL where that is the nonce of this row
    ADD COLUMN generation bytea,
    -- the runs that ended in an error, and left the key to a further run
    ADD COLUMN failed integer NOT NULL DEFAULT 0,
    -- of running records: the state that the claim took over, failed or abandoned; NULL where the key was vacant
    ADD COLUMN before text,
    -- when the state began that is left to a further run; of running records: the one that the claim took over
    ADD COLUMN since timestamptz,
    -- the time before which no claim takes over
    ADD COLUMN not_before timestamptz,
    -- true if there are steps of this generation
    ADD COLUMN has_steps boolean NOT NULL DEFAULT false;

-- By generation, so that the steps of one life of a key are never those of another.
CREATE TABLE "{table}_steps" (
    generation bytea NOT NULL,
    name       text COLLATE "C" NOT NULL,
    -- the order in which the steps of a life were recorded
    number     bigint GENERATED ALWAYS AS IDENTITY,
    -- of the claim that recorded the step
    nonce      bytea NOT NULL,
    -- the bytes as the codec wrote them
    result     bytea,
    -- why there is no result: too-large, not-serializable
    reason     text,
    PRIMARY KEY (generation, name)
);

-- The names are those of the table that has the trigger, so that it works whatever the search_path of a session is.
CREATE FUNCTION "{table}_drop_steps"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DELETE FROM %I.%I WHERE generation = $1', TG_TABLE_SCHEMA, TG_TABLE_NAME || '_steps')
    USING old.generation;
    RETURN NULL;
END
$$;

-- No foreign key that cascades: it would cost each removal of a record a look for steps.
CREATE TRIGGER "{table}_removed" AFTER DELETE ON "{table}"
    FOR EACH ROW WHEN (old.has_steps) EXECUTE FUNCTION "{table}_drop_steps"();
CREATE TRIGGER "{table}_ended" AFTER UPDATE OF has_steps ON "{table}"
    FOR EACH ROW WHEN (old.has_steps AND NOT new.has_steps) EXECUTE FUNCTION "{table}_drop_steps"();

-- As before, and where jsonb cannot hold the JSON, as with \u0000 in it, the text of the JSON as a string.
CREATE OR REPLACE FUNCTION "{table}_json"(result bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    written text;
BEGIN
    written := convert_from(result, 'UTF8');
    BEGIN
        RETURN written::jsonb;
    EXCEPTION WHEN others THEN
        PERFORM written::json;
        RETURN to_jsonb(written);
    END;
EXCEPTION WHEN others THEN
    RETURN NULL;
END
$$;

-- As before, and the pauses and failures last: privileges on the view stay as they are.
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
    not_before
FROM "{table}"
WHERE expires_at > clock_timestamp();
