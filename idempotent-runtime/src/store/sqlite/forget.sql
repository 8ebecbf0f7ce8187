-- ?1 operation, ?2 key
-- Whether the record was alive, if there was one.
DELETE FROM {table} WHERE operation = ?1 AND key = ?2 RETURNING expires_at > {now}
