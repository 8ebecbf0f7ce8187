#!lua flags=allow-oom
-- Must be accepted when the server is out of memory: the effects have happened.
-- KEYS[1]  the record
-- ARGV[1]  the owner's nonce; ARGV[2] 'O', 'E' or 'U'; ARGV[3] the payload; ARGV[4] how long to keep it, in ms
-- Returns  1 applied (now or before), 0 lost
local header = redis.call('GETRANGE', KEYS[1], 0, 73)
if string.sub(header, 7, 22) ~= ARGV[1] then
  return 0
end
local state = string.sub(header, 5, 5)
if state ~= 'R' then
  return state == 'A' and 0 or 1
end
redis.call('SET', KEYS[1], 'IDM1' .. ARGV[2] .. '0' .. string.sub(header, 7) .. ARGV[3], 'PX', ARGV[4])
if string.sub(header, 6, 6) == '1' then
  redis.call('PUBLISH', KEYS[1], '')
end
return 1
