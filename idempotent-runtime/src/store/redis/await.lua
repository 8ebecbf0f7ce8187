#!lua flags=allow-oom
-- Says that somebody listens, so that the end of the run is published.
-- KEYS[1]  the record
local start = redis.call('GETRANGE', KEYS[1], 0, 5)
if start == 'IDM1R0' then
  redis.call('SETRANGE', KEYS[1], 5, '1')
elseif start == 'IDM1R2' then
  redis.call('SETRANGE', KEYS[1], 5, '3')
end
return 1
