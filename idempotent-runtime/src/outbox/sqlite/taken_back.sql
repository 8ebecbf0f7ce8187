-- ?1 equal messages of one run: a JSON array of pairs of number and id
-- Looks for messages that are rolled back: their number is free again, or another message has it. At most one row: the first
-- place in the array, counted from 1. A message that was published and removed meanwhile is not one of them, unless its number
-- is another's.
SELECT sent.key + 1
FROM json_each(?1) AS sent
WHERE sent.value ->> 0 > coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{table}_outbox'), 0)
   OR EXISTS (SELECT 1 FROM {table}_outbox AS o WHERE o.seq = sent.value ->> 0 AND o.id <> sent.value ->> 1)
ORDER BY sent.key
LIMIT 1
