-- $1 operation  $2 key  $3 nonce
-- The record's state, true if the nonce is its last owner's, and its fence. No row: vacant.
SELECT state, nonce = $3, fence
FROM "{table}"
WHERE operation = $1 AND key = $2 AND expires_at > clock_timestamp()
