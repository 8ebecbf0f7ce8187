-- The record of a key, if it has not expired. Reads only: this is all that a hit costs.
-- ?1 operation, ?2 key
SELECT operation, key, state, fingerprint, nonce, fence, attempt, result, reason,
       iif(lease_until IS NULL, NULL, coalesce({held_until}, {now} + lease_until - completed_at)) - {now} AS lease_left,
       expires_at - {clock} AS record_left, arguments, context,
       coalesce({fallen}, false) AS is_behind,
       coalesce(generation, nonce) AS generation, before, {clock} - since AS since_ms, failed, has_steps,
       iif(not_before IS NULL, NULL, coalesce({held_until}, {now} + not_before - completed_at)) - {now} AS pause_left
FROM {table}
WHERE operation = ?1 AND key = ?2 AND expires_at > {now}
