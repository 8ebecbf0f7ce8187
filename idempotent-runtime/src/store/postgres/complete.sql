-- `asked` has a row for each run that ends: one, or several that travel together (asked/completion.sql, asked/completions.sql)
-- $1 operation  $2 key  $3 nonce  $4 the state that it ends in  $5 result  $6 reason  $7 time to live in µs
-- $8 what waiters are notified with
-- A row for each that ended now, with its number. The journal goes with the run, by a trigger: see the schema. That of an
-- exhausted key stays: an operator may have it run again, after its last step.
WITH {settings}, {asked}, ended AS (
    UPDATE "{table}" AS record SET
        state = asked.state,
        result = asked.result,
        reason = asked.reason,
        lease_until = NULL,
        unended = NULL,
        has_steps = record.has_steps AND asked.state = 'exhausted',
        completed_at = clock_timestamp(),
        expires_at = clock_timestamp() + asked.ttl * interval '1 microsecond'
    FROM settings CROSS JOIN asked
    WHERE record.operation = asked.operation
        AND record.key = asked.key
        AND record.nonce = asked.nonce
        AND record.state = 'running'
        AND record.expires_at > clock_timestamp()
    RETURNING asked.number, record.waiters, asked.payload
)
SELECT number, CASE WHEN waiters THEN pg_notify('{table}', payload) END FROM ended
