-- Those of these keys that have no run that is alive.
-- ?1 a JSON array of 'operation|key'
SELECT k.value FROM json_each(?1) AS k
WHERE NOT EXISTS (
  SELECT 1 FROM {table}
  WHERE operation = substr(k.value, 1, instr(k.value, '|') - 1) AND key = substr(k.value, instr(k.value, '|') + 1)
    AND state = 'running' AND coalesce({held_until} > {now}, true))
