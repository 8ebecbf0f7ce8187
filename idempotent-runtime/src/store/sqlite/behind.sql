-- The machine's clock is behind the time at which the record was written. Kept as it is, a run that was killed would have the
-- key for the whole jump; taken as over, a second body would start beside one that is alive. So its lease, or its pause,
-- ends by this clock as late as it would have ended then. The end by the right clock stays: it counts once more when that is
-- back.
-- ?1 operation, ?2 key
-- A row if it was changed: it had no such end yet, or one by a clock that was less far behind, or needs none any more.
UPDATE {table} SET
  behind_until = iif(completed_at > {now}, {now} + (coalesce(lease_until, not_before) - completed_at), NULL)
WHERE operation = ?1 AND key = ?2 AND {fallen}
RETURNING 1
