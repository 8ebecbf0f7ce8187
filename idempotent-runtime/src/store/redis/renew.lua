#!lua flags=allow-oom
-- KEYS[1]  the record
-- ARGV[1]  the owner's nonce; ARGV[2] the time to live in the record's header; ARGV[3] how long to keep it, in ms
-- Returns  1 applied, 0 lost
local header = redis.call('GETRANGE', KEYS[1], 0, 73)
if string.sub(header, 7, 22) ~= ARGV[1] or string.sub(header, 5, 5) ~= 'R' then
  return 0
end
if string.sub(header, 35, 42) ~= ARGV[2] then
  redis.call('SETRANGE', KEYS[1], 34, ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
