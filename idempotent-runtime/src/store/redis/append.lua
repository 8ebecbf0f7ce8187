#!lua flags=allow-oom
-- Adds a step to the journal and renews the lease. Accepted when the server is out of memory, too: the step has happened.
-- KEYS[1]  the record
-- ARGV[1]  the owner's nonce; ARGV[2] the entry;
-- ARGV[3]  the time to live in the record's header; ARGV[4] how long to keep it, in ms
-- Returns  1 applied (now or before), 0 lost, or the kind and the value of the step of this name that an earlier attempt
--          has recorded
local record = redis.call('GET', KEYS[1])
if not record or string.sub(record, 7, 22) ~= ARGV[1] or string.sub(record, 5, 5) ~= 'R' then
  return 0
end
local entry = ARGV[2]
if string.sub(record, 1, 4) == 'IDM1' then
  record = 'IDM2' .. string.sub(record, 5, 34) .. ARGV[3] .. string.sub(record, 43, 74)
    .. ARGV[1] .. string.rep('\0', 4) .. '0' .. string.rep('\0', 8) .. string.sub(record, 75) .. entry
  redis.call('SET', KEYS[1], record, 'PX', ARGV[4])
  return 1
end
local at, answer, is_new = 104, 1, true
if string.byte(record, 6) >= 50 then -- '2': with something beside
  at = 108 + struct.unpack('>I4', record, 104)
end
-- The name with its length in front. It may also stand in a value: only the walk can tell. A new name is usually nowhere, and
-- the search is faster: a walk through 1,000 entries takes a millisecond.
local name = string.sub(entry, 1, 4 + struct.unpack('>I4', entry))
if string.find(record, name, at, true) then
  while at <= #record do
    local nonce_at = at + 4 + struct.unpack('>I4', record, at)
    local value_at = nonce_at + 21
    local next_at = value_at + struct.unpack('>I4', record, nonce_at + 17)
    if string.sub(record, at, nonce_at - 1) == name then
      is_new = false
      if string.sub(record, nonce_at, nonce_at + 15) ~= ARGV[1] then
        answer = string.sub(record, nonce_at + 16, nonce_at + 16) .. string.sub(record, value_at, next_at - 1)
      end
    end
    at = next_at
  end
end
-- Writes in place: the server does not copy a long journal for a short entry.
if is_new then
  redis.call('SETRANGE', KEYS[1], #record, entry)
end
if string.sub(record, 35, 42) ~= ARGV[3] then
  redis.call('SETRANGE', KEYS[1], 34, ARGV[3])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return answer
