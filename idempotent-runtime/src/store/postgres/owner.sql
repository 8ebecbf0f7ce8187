-- $1 operation  $2 key  $3 nonce
-- The record's state, true if the nonce is its last owner's, its result and its reason. No row: vacant.
SELECT state, nonce = $3, result, reason
FROM "{table}"
WHERE operation = $1 AND key = $2 AND expires_at > clock_timestamp()
