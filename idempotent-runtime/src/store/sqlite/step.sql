-- The third: the step of this name, and whether this claim has recorded it.
-- ?1 operation, ?2 key, ?3 nonce, ?4 name
SELECT step.nonce = record.nonce AS is_ours, step.result, step.reason
FROM {table} AS record JOIN {table}_steps AS step ON step.generation = record.generation
WHERE record.operation = ?1 AND record.key = ?2 AND record.nonce = ?3 AND record.state = 'running'
  AND step.name = ?4
