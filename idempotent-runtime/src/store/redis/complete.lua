#!lua flags=allow-oom
-- Accepted when the server is out of memory, too: the effects have happened.
-- KEYS[1]  the record
-- ARGV[1]  the owner's nonce; ARGV[2] the bytes before it in the finished record; ARGV[3] the payload;
-- ARGV[4]  how long to keep it, in ms
-- Returns  1 applied (now or before), 0 lost
local key, call = KEYS[1], redis.call
local header = call('GETRANGE', key, 4, 73)
if string.sub(header, 3, 18) ~= ARGV[1] then
  return 0
end
-- The nonce is ours, so the record is of our run. Compares bytes and makes few strings: every miss runs this script.
local state, flags = string.byte(header, 1, 2)
if state ~= 82 then -- 'R'
  return state == 65 and 0 or 1 -- 'A'
end
local start, rest = ARGV[2], string.sub(header, 3)
if flags >= 50 then -- '2': with arguments
  start, rest = string.sub(start, 1, 5) .. '2', call('GETRANGE', key, 6, -1)
end
call('SET', key, start .. rest .. ARGV[3], 'PX', ARGV[4])
if flags % 2 == 1 then
  call('PUBLISH', key, '')
end
return 1
