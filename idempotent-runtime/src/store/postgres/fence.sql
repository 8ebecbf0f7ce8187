-- $1 operation  $2 key  $3 nonce
-- Makes the fence on first use. A number that was drawn for a claim which is lost meanwhile is not given to anybody:
-- the row is compared under its lock. Drawn at the claim instead, it could be lower than that of an earlier claim which
-- came and went while the insertion waited.
UPDATE "{table}" SET fence = coalesce(fence, nextval('"{table}_fence"'))
WHERE operation = $1 AND key = $2 AND nonce = $3 AND state = 'running' AND expires_at > clock_timestamp()
RETURNING fence
