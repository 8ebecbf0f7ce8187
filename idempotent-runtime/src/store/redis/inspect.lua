#!lua flags=no-writes,allow-oom
-- KEYS[1]  the record
-- Returns  its bytes and its remaining time in ms; nil where there is none
local record = redis.call('GET', KEYS[1])
if not record then
  return nil
end
return {record, redis.call('PTTL', KEYS[1])}
