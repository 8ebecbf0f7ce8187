-- $1 rows  $2 the error of each
UPDATE "{table}_outbox" AS o SET state = 'parked', error = refused.error
FROM unnest($1::bigint[], $2::text[]) AS refused (seq, error)
WHERE o.seq = refused.seq
