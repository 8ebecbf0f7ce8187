-- $1 ids of equal messages of one run  $2 the transaction of each
-- Looks for messages that are rolled back. At most one row: the first place in the arrays, counted from 1; NULL if there is
-- none yet, but another transaction has not ended.
WITH earlier AS (
    SELECT place, CASE
        -- Of this transaction: a savepoint may have taken it back.
        WHEN xid = pg_current_xact_id_if_assigned() THEN NOT EXISTS (SELECT FROM "{table}_outbox" AS o WHERE o.id = sent.id)
        WHEN pg_xact_status(xid) = 'in progress' THEN NULL
        ELSE pg_xact_status(xid) IS NOT DISTINCT FROM 'aborted'
    END AS is_taken_back
    FROM unnest($1::text[]::uuid[], $2::text[]::xid8[]) WITH ORDINALITY AS sent (id, xid, place)
)
SELECT CASE WHEN is_taken_back THEN place END FROM earlier
WHERE is_taken_back IS NOT false
ORDER BY is_taken_back NULLS LAST, place
LIMIT 1
