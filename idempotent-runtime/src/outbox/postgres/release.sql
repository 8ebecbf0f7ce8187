-- $1 nonce
DELETE FROM "{table}_relay" WHERE nonce = $1
