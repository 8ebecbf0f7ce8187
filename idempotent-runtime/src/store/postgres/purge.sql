-- $1 how many at most
-- How many were removed. What somebody else holds is skipped, and what was claimed anew meanwhile is compared again
-- under its lock.
WITH expired AS MATERIALIZED (
    SELECT operation, key
    FROM "{table}"
    WHERE expires_at <= (SELECT clock_timestamp())
    ORDER BY expires_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
), purged AS (
    DELETE FROM "{table}" AS record
    USING expired
    WHERE record.operation = expired.operation AND record.key = expired.key
    RETURNING true
)
SELECT count(*) FROM purged
