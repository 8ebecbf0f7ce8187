SELECT
        number, operation, key, fingerprint, nonce, lease, ttl, arguments, context
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bigint[], $9::bytea[],
        $10::text[]) WITH ORDINALITY
        AS asked (operation, key, fingerprint, nonce, lease, ttl, arguments, context, number)
