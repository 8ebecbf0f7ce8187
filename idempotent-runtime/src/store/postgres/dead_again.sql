-- $1 operation  $2 id
WITH {settings}
UPDATE "{table}_dead" SET state = 'dead' FROM settings WHERE operation = $1 AND id = $2
