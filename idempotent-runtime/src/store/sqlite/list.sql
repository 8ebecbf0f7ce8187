-- ?1 operation or NULL for all, ?2 the last id of the page before, ?3 how many at most
SELECT id, operation, key, state, fingerprint, nonce, fence, attempt, result, reason,
       iif(lease_until IS NULL, NULL, coalesce({held_until}, {now} + lease_until - completed_at)) - {now} AS lease_left,
       expires_at - {clock} AS record_left, arguments, context,
       coalesce({fallen}, false) AS is_behind,
       coalesce(generation, nonce) AS generation, before, {clock} - since AS since_ms, failed, has_steps,
       iif(not_before IS NULL, NULL, coalesce({held_until}, {now} + not_before - completed_at)) - {now} AS pause_left
FROM {table}
WHERE id > ?2 AND (?1 IS NULL OR operation = ?1) AND expires_at > {now}
ORDER BY id LIMIT ?3
