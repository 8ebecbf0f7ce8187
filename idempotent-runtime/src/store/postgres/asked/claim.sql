SELECT
        1::bigint AS number, $1::text AS operation, $2::text AS key, $3::bytea AS fingerprint, $4::bytea AS nonce,
        $5::bigint AS lease, $6::bigint AS ttl, $9::bytea AS arguments, $10::text AS context
