-- $1 operation  $2 key  $3 nonce
-- Makes the fence on first use. The row is compared under its lock: a number that is drawn for a claim which is lost
-- meanwhile is given to nobody. Drawn at the claim instead, the fence could be lower than that of an earlier claim: this
-- claim draws 7 and waits for the row, another one draws 8, runs and is released, and then this one runs with 7.
WITH {settings}
UPDATE "{table}" SET fence = coalesce(fence, nextval('"{table}_fence"'))
FROM settings
WHERE operation = $1 AND key = $2 AND nonce = $3 AND state = 'running' AND expires_at > clock_timestamp()
RETURNING fence
