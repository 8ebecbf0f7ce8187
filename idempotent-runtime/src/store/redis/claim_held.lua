#!lua
-- Decides a claim on a key that is held, lapsed or abandoned. Refused when the server is out of memory.
-- KEYS[1]  the record
-- ARGV[1]  a fresh running record; ARGV[2] how long to keep it, in ms; ARGV[3] the longest time to live, in ms, of a record
--          that may be taken over: -1 where none may
-- Returns  the record as it is now (ours, done, or of another request),
--          or what is left of the holder's lease in ms (> 0),
--          or the attempt that was abandoned, negated (< 0).
local record = redis.call('GET', KEYS[1])
-- Held when `SET NX GET` looked, vacant now: released, forgotten or expired in between. `SET` without NX is safe here,
-- since nothing runs between two calls of a script.
if not record then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return ARGV[1]
end
local state = string.sub(record, 5, 5)
local ttl = redis.call('PTTL', KEYS[1])
if ttl < 0 then
  -- Without an end, which this library does not write: held, and a run is alive.
  ttl = math.huge
end
if string.sub(record, 1, 4) ~= 'IDM1' or (state ~= 'R' and state ~= 'A')
  or string.sub(record, 43, 74) ~= string.sub(ARGV[1], 43, 74) then
  return record
end
if state == 'R' then
  -- Ours: this claim was granted before, and its reply was lost.
  if string.sub(record, 7, 22) == string.sub(ARGV[1], 7, 22) then
    return record
  end
  local left = math.min(ttl, 4000000000000) - struct.unpack('>I8', record, 35)
  if left > 0 then
    -- Sets the waiters' flag in the step that finds the run alive: set later, the run could end in between without a
    -- message, and the waiter would sleep through it.
    local flags = string.byte(record, 6)
    if flags % 2 == 0 then
      redis.call('SETRANGE', KEYS[1], 5, string.char(flags + 1))
    end
    return left
  end
end
local attempt = struct.unpack('>I4', record, 31)
if ttl > tonumber(ARGV[3]) then
  return -attempt
end
local now = redis.call('TIME')
local fence = math.max(struct.unpack('>I8', record, 23) + 1, now[1] * 1000000 + now[2])
-- Keeps the waiters' flag: a waiter of the old run waits for this one. The arguments are the new claim's.
local flags = string.byte(ARGV[1], 6) + string.byte(record, 6) % 2
record = 'IDM1R' .. string.char(flags) .. string.sub(ARGV[1], 7, 22)
  .. struct.pack('>I8', fence) .. struct.pack('>I4', math.min(attempt + 1, 4294967295))
  .. string.sub(ARGV[1], 35)
redis.call('SET', KEYS[1], record, 'PX', ARGV[2])
return record
