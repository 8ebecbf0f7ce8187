-- $1 operation  $2 key
-- Tells the run that somebody waits, so that its end is notified. Sent after LISTEN is in effect: a run that ended before
-- is not running here, and the waiter looks at the record after this.
WITH {settings}
UPDATE "{table}" SET waiters = true FROM settings WHERE operation = $1 AND key = $2 AND state = 'running' AND NOT waiters
