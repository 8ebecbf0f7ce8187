-- $1 how many at most
-- How many were removed. What somebody else holds is skipped. What was claimed anew in the meantime is compared again
-- under its lock, and has moved: where it was there is nothing to remove.
WITH purged AS (
    DELETE FROM "{table}"
    WHERE ctid = ANY (ARRAY(
        SELECT ctid
        FROM "{table}"
        WHERE expires_at <= (SELECT clock_timestamp())
        ORDER BY expires_at
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING true
)
SELECT count(*) FROM purged
