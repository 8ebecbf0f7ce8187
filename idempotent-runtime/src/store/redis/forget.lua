#!lua flags=allow-oom
-- Removes whatever is there, also what is not a record.
-- KEYS[1]  the record
-- Returns  1 where there was something
local removed = redis.call('DEL', KEYS[1])
if removed == 1 then
  redis.call('PUBLISH', KEYS[1], '')
end
return removed
