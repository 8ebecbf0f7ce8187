-- ?1 operation, ?2 key
-- A row if there was a record: true if it had not expired.
DELETE FROM {table} WHERE operation = ?1 AND key = ?2 RETURNING expires_at > {now}
