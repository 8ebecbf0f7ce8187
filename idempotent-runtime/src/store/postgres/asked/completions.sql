asked AS MATERIALIZED (
    SELECT
        number, operation, key, nonce, state, result, reason, ttl, payload
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bytea[], $6::text[], $7::bigint[], $8::text[])
        WITH ORDINALITY AS asked (operation, key, nonce, state, result, reason, ttl, payload, number)
)
