-- ?1 the last operation of the page before, ?2 how many at most
-- Each step looks up the next operation in the index: it passes over the letters between.
WITH RECURSIVE found (operation) AS (
    SELECT * FROM (SELECT operation FROM {table}_dead WHERE operation > ?1 ORDER BY operation LIMIT 1)
    UNION ALL
    SELECT (SELECT next.operation FROM {table}_dead AS next WHERE next.operation > found.operation ORDER BY next.operation LIMIT 1)
    FROM found
    WHERE found.operation IS NOT NULL
)
SELECT operation FROM found WHERE operation IS NOT NULL LIMIT ?2
