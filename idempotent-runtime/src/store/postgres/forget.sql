-- $1 operation  $2 key  $3 what waiters are notified with
-- One row: true if the record that was removed had not expired. No row: there was none.
WITH {settings}, forgotten AS (
    DELETE FROM "{table}" USING settings WHERE operation = $1 AND key = $2 RETURNING expires_at > clock_timestamp() AS is_live
)
SELECT is_live, pg_notify('{table}', $3) FROM forgotten
