-- The second: records the step, unless there is one of its name.
-- ?1 operation, ?2 key, ?3 nonce, ?4 name, ?5 result, ?6 reason
INSERT INTO {table}_steps (generation, name, nonce, result, reason)
SELECT generation, ?4, nonce, ?5, ?6 FROM {table}
WHERE operation = ?1 AND key = ?2 AND nonce = ?3 AND state = 'running' AND has_steps
ON CONFLICT (generation, name) DO NOTHING
