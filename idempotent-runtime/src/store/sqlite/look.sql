-- The record of a key, if it has not expired. Reads only: this is all that a hit costs.
-- ?1 operation, ?2 key
SELECT operation, key, state, fingerprint, nonce, fence, attempt, result, reason,
       lease_until - {now} AS lease_left, expires_at - {now} AS record_left, arguments,
       coalesce(completed_at > {now}, false) AS is_ahead
FROM {table}
WHERE operation = ?1 AND key = ?2 AND expires_at > {now}
