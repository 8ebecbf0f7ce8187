-- $1, $2 the operation and the key to start from  $3 the last operation  $4 how many at most
SELECT
    record.operation,
    record.key,
    record.state,
    record.attempt,
    record.fingerprint,
    (extract(epoch FROM record.lease_until - clock.now) * 1000000)::bigint,
    (extract(epoch FROM record.expires_at - clock.now) * 1000000)::bigint,
    record.result,
    record.reason,
    record.arguments,
    coalesce(record.generation, record.nonce),
    record.failed,
    (extract(epoch FROM record.not_before - clock.now) * 1000000)::bigint,
    record.nonce,
    record.context
FROM "{table}" AS record CROSS JOIN (SELECT clock_timestamp() AS now) AS clock
WHERE (record.operation, record.key) >= ($1, $2) AND record.operation <= $3 AND record.expires_at > clock.now
ORDER BY record.operation, record.key
LIMIT $4
