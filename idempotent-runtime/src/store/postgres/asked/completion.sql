asked AS NOT MATERIALIZED (
    SELECT
        1::bigint AS number, $1::text AS operation, $2::text AS key, $3::bytea AS nonce, $4::text AS state,
        $5::bytea AS result, $6::text AS reason, $7::bigint AS ttl, $8::text AS payload
)
