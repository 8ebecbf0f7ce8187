#!lua flags=allow-oom
-- Sets the waiters' flag, so that the end of the run is published. Called after the server has confirmed the
-- subscription: a run that ended before is not running here, and the waiter looks at the record after this.
-- KEYS[1]  the record
local start = redis.call('GETRANGE', KEYS[1], 0, 5)
if start == 'IDM1R0' then
  redis.call('SETRANGE', KEYS[1], 5, '1')
elseif start == 'IDM1R2' then
  redis.call('SETRANGE', KEYS[1], 5, '3')
end
return 1
