-- $1 how many at most  $2 true to leave them to another session that is at it, as each process does by itself
-- One row: the number of rows that were removed. A row that another transaction has locked is skipped. A row that was
-- claimed anew after the snapshot is compared again under its lock, and the claim has moved it to another ctid: at the
-- old one there is nothing to remove.
WITH turn AS MATERIALIZED (
    SELECT NOT $2 OR pg_try_advisory_xact_lock(hashtextextended('idempotent sweep of {table}', 0)) AS is_ours
), purged AS (
    DELETE FROM "{table}"
    WHERE ctid = ANY (ARRAY(
        SELECT ctid
        FROM "{table}"
        WHERE expires_at <= (SELECT clock_timestamp()) AND (SELECT is_ours FROM turn)
        ORDER BY expires_at
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING true
)
SELECT count(*) FROM purged
