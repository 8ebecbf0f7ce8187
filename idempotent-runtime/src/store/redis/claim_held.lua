#!lua
-- Decides a claim on a key that is held, lapsed or suspended. Refused when the server is out of memory.
-- KEYS[1]  the record
-- ARGV[1]  a fresh running record; ARGV[2] how long to keep it, in ms; ARGV[3] the longest time to live, in ms, of an
--          abandoned or lapsed record that may be taken over: -1 where none may
-- Returns  {the record as it is now (ours, done, or of another request), the server's time in ms since 1970},
--          or what is left of the holder's lease in ms (> 0),
--          or the attempt that was abandoned, negated (< 0),
--          or {the time in ms until somebody may take over (> 0), the attempt that has ended}; 1 where that is this claim's
local fresh, record, time = ARGV[1], redis.call('GET', KEYS[1]), redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Held when `SET NX GET` looked, vacant now: released, forgotten or expired in between. `SET` without NX is safe here,
-- since nothing runs between two calls of a script.
if not record then
  redis.call('SET', KEYS[1], fresh, 'PX', ARGV[2])
  return {fresh, now}
end
local magic, state, flags = string.sub(record, 1, 4), string.sub(record, 5, 5), string.byte(record, 6)
if (magic ~= 'IDM1' and magic ~= 'IDM2') or (state ~= 'R' and state ~= 'F' and state ~= 'A')
  or string.sub(record, 43, 74) ~= string.sub(fresh, 43, 74) then
  return {record, now}
end
local ttl = redis.call('PTTL', KEYS[1])
-- What is left of the lease of a running record, or of the pause of a suspended one.
local left = ttl - struct.unpack('>I8', record, 35)
if ttl < 0 then
  -- Without an end, which this library does not write: held. A run is alive, and a suspended record has no pause.
  ttl, left = 4000000000000, state == 'R' and 4000000000000 or 0
end
if state == 'R' then
  -- Ours: this claim was granted before, and its reply was lost.
  if string.sub(record, 7, 22) == string.sub(fresh, 7, 22) then
    return {record, now}
  end
  if left > 0 then
    -- Sets the waiters' flag in the step that finds the run alive: set later, the run could end in between without a
    -- message, and the waiter would sleep through it.
    if flags % 2 == 0 then
      redis.call('SETRANGE', KEYS[1], 5, string.char(flags + 1))
    end
    return left
  end
end
local attempt = struct.unpack('>I4', record, 31)
if state ~= 'F' and ttl > tonumber(ARGV[3]) then
  return -attempt
end
if left > 0 then
  return {left, attempt}
end
-- Ours, and its run was suspended: a try that was delayed. Nobody would have the run that it begins.
if state ~= 'R' and string.sub(record, 7, 22) == string.sub(fresh, 7, 22) then
  return {1, attempt}
end
-- The life so far: generation, failed, before, since. Then what lies beside, which becomes the new claim's, and the journal.
local life, journal_at = string.sub(record, 75, 103), 104
if magic == 'IDM1' then
  -- An old abandoned record does not tell since when: it is taken as now.
  life, journal_at = string.sub(record, 7, 22) .. string.rep('\0', 5) .. struct.pack('>I8', now), #record + 1
elseif flags >= 50 then -- '2': with something beside
  journal_at = 108 + struct.unpack('>I4', record, 104)
end
local before = state .. string.sub(life, 22)
if state == 'R' then
  before = 'A' .. struct.pack('>I8', math.max(now + left, 0))
end
local fence = math.max(struct.unpack('>I8', record, 23) + 1, time[1] * 1000000 + time[2])
-- Keeps the waiters' flag: a waiter of the old run waits for this one.
record = 'IDM2R' .. string.char(string.byte(fresh, 6) + flags % 2) .. string.sub(fresh, 7, 22)
  .. struct.pack('>I8', fence) .. struct.pack('>I4', math.min(attempt + 1, 4294967295)) .. string.sub(fresh, 35, 74)
  .. string.sub(life, 1, 20) .. before .. string.sub(fresh, 75) .. string.sub(record, journal_at)
redis.call('SET', KEYS[1], record, 'PX', ARGV[2])
return {record, now}
