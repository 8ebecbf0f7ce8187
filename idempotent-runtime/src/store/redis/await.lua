#!lua flags=allow-oom
-- Sets the waiters' flag, so that the end of the run is published. Called after the server has confirmed the
-- subscription: a run that ended before is not running here, and the waiter looks at the record after this.
-- KEYS[1]  the record
local start = redis.call('GETRANGE', KEYS[1], 0, 5)
if string.find(start, '^IDM[12]R[0246]$') then
  redis.call('SETRANGE', KEYS[1], 5, string.char(string.byte(start, 6) + 1))
end
return 1
