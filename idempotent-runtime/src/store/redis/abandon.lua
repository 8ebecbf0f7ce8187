#!lua flags=allow-oom
-- KEYS[1]  the record
-- ARGV[1]  the owner's nonce; ARGV[2] how long to keep the record, in ms
-- Returns  1 applied (now or before), 0 lost
local header = redis.call('GETRANGE', KEYS[1], 0, 73)
if string.sub(header, 7, 22) ~= ARGV[1] then
  return 0
end
local state = string.sub(header, 5, 5)
if state ~= 'R' then
  return state == 'A' and 1 or 0
end
local flags, record = string.byte(header, 6), 'IDM1A0' .. string.sub(header, 7)
if flags >= 50 then -- '2': with arguments
  record = 'IDM1A2' .. redis.call('GETRANGE', KEYS[1], 6, -1)
end
redis.call('SET', KEYS[1], record, 'PX', ARGV[2])
if flags % 2 == 1 then
  redis.call('PUBLISH', KEYS[1], '')
end
return 1
