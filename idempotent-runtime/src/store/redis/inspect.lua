#!lua flags=no-writes,allow-oom
-- KEYS[1]  the record
-- Returns  its bytes, its remaining time in ms, and the server's time in ms since 1970; nil where there is none
local record = redis.call('GET', KEYS[1])
if not record then
  return nil
end
local now = redis.call('TIME')
return {record, redis.call('PTTL', KEYS[1]), now[1] * 1000 + math.floor(now[2] / 1000)}
