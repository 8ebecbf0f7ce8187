-- The sums of the books, and every mistake in them. The same text for PostgreSQL and SQLite.
-- $1 the opening balance of each account, in cents
--
-- One statement, so that all of it is about the same moment, whatever other processes write meanwhile.
WITH made AS (
    SELECT transfer_id, count(*) AS entries, sum(cents) AS cents FROM ledger GROUP BY transfer_id
), moved AS (
    SELECT account_id, sum(cents) AS cents FROM ledger GROUP BY account_id
), recorded AS (
    -- A key of letters, digits and hyphens is kept as it is.
    SELECT key AS transfer_id, state FROM idempotent_records_view WHERE operation = 'transfers.transfer'
)
SELECT
    (SELECT count(*) FROM accounts) AS accounts,
    (SELECT CAST(coalesce(sum(balance_cents), 0) AS bigint) FROM accounts) AS total_cents,
    (SELECT count(*) FROM ledger) AS entries,
    (SELECT count(*) FROM recorded WHERE state = 'ok') AS made,
    (SELECT count(*) FROM recorded WHERE state = 'error') AS refused,
    (SELECT count(*) FROM accounts WHERE balance_cents < 0) AS overdrawn,
    (SELECT count(*) FROM accounts LEFT JOIN moved ON moved.account_id = accounts.id
        WHERE accounts.balance_cents <> $1 + coalesce(moved.cents, 0)) AS off_balance,
    (SELECT count(*) FROM made WHERE entries > 2) AS made_twice,
    (SELECT count(*) FROM made WHERE entries < 2 OR cents <> 0) AS made_in_part,
    (SELECT count(*) FROM made LEFT JOIN recorded ON recorded.transfer_id = made.transfer_id
        WHERE recorded.state IS NULL OR recorded.state <> 'ok') AS without_record,
    (SELECT count(*) FROM recorded LEFT JOIN made ON made.transfer_id = recorded.transfer_id
        WHERE recorded.state = 'ok' AND made.entries IS NULL) AS without_entries,
    (SELECT count(*) FROM recorded WHERE state NOT IN ('ok', 'error')) AS without_end
