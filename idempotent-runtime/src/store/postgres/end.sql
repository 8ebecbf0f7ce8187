-- $1 operation  $2 key  $3 nonce  $4 the state that it ends in  $5 result  $6 reason  $7 time to live in µs
-- $8 what waiters are notified with  $9 how long in ms the session may be idle from here on
-- Ends a run that was claimed outside, as the last statement before the commit of a transaction that the library has begun.
--
-- One row. If there is nothing to end, it divides by zero (22012): the transaction has failed in the server, so that nothing
-- can commit what the body did, whatever the client does next. So it is, too, if the body has ended the transaction
-- and maybe begun another one, which has no `idempotent.run`, or has changed its isolation: above READ COMMITTED this
-- statement would not see a row that a renewal has changed meanwhile.
WITH settings AS MATERIALIZED (
    SELECT
        -- A process that is stopped between this and its COMMIT has the row's lock for that long.
        set_config('idle_in_transaction_session_timeout', $9, true),
        -- A COMMIT that waits, as for a standby, ends when its client has gone. Other systems cannot look for that.
        CASE WHEN version() LIKE '%linux%' THEN set_config('client_connection_check_interval', '1s', true) END,
        CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END
    WHERE current_setting('idempotent.run', true) = 'begun' AND current_setting('transaction_isolation') = 'read committed'
), ended AS (
    UPDATE "{table}" SET
        state = $4,
        result = $5,
        reason = $6,
        lease_until = NULL,
        unended = NULL,
        has_steps = false,
        completed_at = clock_timestamp(),
        expires_at = clock_timestamp() + $7 * interval '1 microsecond'
    FROM settings
    WHERE operation = $1 AND key = $2 AND nonce = $3 AND state = 'running' AND expires_at > clock_timestamp()
    RETURNING 1 AS one, waiters
), once AS (
    SELECT
)
SELECT
    1 / coalesce(ended.one, 0),
    CASE WHEN ended.waiters THEN pg_notify('{table}', $8)::text END
FROM once LEFT JOIN ended ON true
