#!lua flags=allow-oom
-- KEYS[1]  the record
-- ARGV[1]  the owner's nonce
-- Returns  1 vacant (now or before), 0 lost
local header = redis.call('GETRANGE', KEYS[1], 0, 73)
if header == '' then
  return 1
end
if string.sub(header, 7, 22) ~= ARGV[1] or string.sub(header, 5, 5) ~= 'R' then
  return 0
end
redis.call('DEL', KEYS[1])
if string.byte(header, 6) % 2 == 1 then
  redis.call('PUBLISH', KEYS[1], '')
end
return 1
