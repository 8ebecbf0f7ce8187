#!lua flags=allow-oom
-- Accepted when the server is out of memory, too: the effects have happened.
-- KEYS[1]  the record
-- ARGV[1]  the owner's nonce; ARGV[2] the bytes before it in the finished record of a first run; ARGV[3] the payload;
-- ARGV[4]  how long to keep it, in ms
-- Returns  1 applied (now or before), 0 lost
local key, call = KEYS[1], redis.call
local header = call('GETRANGE', key, 3, 73)
if string.sub(header, 4, 19) ~= ARGV[1] then
  return 0
end
-- The nonce is ours, so the record is of our run. Compares bytes and makes few strings: every miss runs this script.
local version, state, flags = string.byte(header, 1, 3)
if state ~= 82 then -- 'R'
  return (state == 65 or state == 70) and 0 or 1 -- 'A', 'F'
end
local start, rest, journal = ARGV[2], string.sub(header, 4), ''
if version == 50 or flags >= 50 then -- "IDM2", or '2': with something beside
  -- The life so far and what lies beside stay. The journal goes, but that of an exhausted key: an operator may have it run
  -- again, after its last step.
  local last = -1
  if version == 50 then
    last = flags < 50 and 102 or 106 + struct.unpack('>I4', call('GETRANGE', key, 103, 106))
  end
  start = 'IDM' .. string.char(version) .. string.sub(start, 5, 5) .. string.char(flags - flags % 2)
  rest = call('GETRANGE', key, 6, last)
  if version == 50 and string.byte(start, 5) == 88 then -- 'X'
    journal = call('GETRANGE', key, last + 1, -1)
  end
end
call('SET', key, start .. rest .. ARGV[3] .. journal, 'PX', ARGV[4])
if flags % 2 == 1 then
  call('PUBLISH', key, '')
end
return 1
