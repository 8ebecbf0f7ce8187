-- ?1 nonce, ?2 lease in ms
-- Takes or renews the lease. One row if it is ours: the age of the first message in ms, NULL where there is none.
-- A lease that was taken in the future is over: the clock has gone back.
INSERT INTO {table}_relay (id, nonce, leased_at, lease_until) VALUES (1, ?1, {now}, {now} + ?2)
ON CONFLICT (id) DO UPDATE SET
  nonce = excluded.nonce, leased_at = excluded.leased_at, lease_until = excluded.lease_until
WHERE nonce = excluded.nonce OR lease_until <= {now} OR leased_at > {now}
RETURNING (SELECT {now} - created_at FROM {table}_outbox WHERE state = 'ready' ORDER BY seq LIMIT 1)
