-- ?1 operation or NULL for all, ?2 the last id of the page before, ?3 how many at most
SELECT id, operation, key, state, fingerprint, nonce, fence, attempt, result, reason,
       lease_until - {now} AS lease_left, expires_at - {now} AS record_left, arguments,
       coalesce(completed_at > {now}, false) AS is_ahead
FROM {table}
WHERE id > ?2 AND (?1 IS NULL OR operation = ?1) AND expires_at > {now}
ORDER BY id LIMIT ?3
