-- $1 operation  $2 key
-- Says that somebody waits, so that the end of the run is notified.
UPDATE "{table}" SET waiters = true WHERE operation = $1 AND key = $2 AND state = 'running' AND NOT waiters
