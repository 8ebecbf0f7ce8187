-- ?1 operation, ?2 key, ?3 nonce
-- A row for each step of the life, in their order; one with a name of NULL where there is none. No row: the run is not
-- this claim's.
SELECT step.name, step.result, step.reason
FROM {table} AS record LEFT JOIN {table}_steps AS step ON step.generation = record.generation
WHERE record.operation = ?1 AND record.key = ?2 AND record.nonce = ?3 AND record.state = 'running'
  AND record.expires_at > {now}
ORDER BY step.number
