-- $1 operation  $2 key  $3 nonce
-- The state of the record, whether the nonce is its last owner's, its fence. No row: vacant.
SELECT state, nonce = $3, fence
FROM "{table}"
WHERE operation = $1 AND key = $2 AND expires_at > clock_timestamp()
