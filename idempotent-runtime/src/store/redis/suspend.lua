#!lua flags=allow-oom
-- Ends a run without an outcome. Accepted when the server is out of memory, too: what the run did has happened.
-- KEYS[1]  the record
-- ARGV[1]  the owner's nonce; ARGV[2] why: 'A' abandoned, 'F' failed, 'U' unstarted, 'R' released;
-- ARGV[3]  the time to live in the record's header; ARGV[4] how long to keep it, in ms
-- Returns  1 applied (now or before), 0 another claim's, nil vacant, or the record where it is done (or none of ours)
local record = redis.call('GET', KEYS[1])
if not record then
  return nil
end
local magic, state, why = string.sub(record, 1, 4), string.sub(record, 5, 5), ARGV[2]
if (magic ~= 'IDM1' and magic ~= 'IDM2') or (state ~= 'R' and state ~= 'F' and state ~= 'A') then
  return record
end
if string.sub(record, 7, 22) ~= ARGV[1] then
  return 0
end
if state ~= 'R' then
  return (why ~= 'R' or state == 'F') and 1 or 0
end
-- The life so far: generation, failed, before, since. Then what lies beside, and the journal.
local life, rest = string.sub(record, 75, 103), string.sub(record, 104)
if magic == 'IDM1' then
  life, rest = ARGV[1] .. string.rep('\0', 4) .. '0' .. string.rep('\0', 8), string.sub(record, 75)
end
local flags, attempt = string.byte(record, 6), struct.unpack('>I4', record, 31)
local failed, before, since = struct.unpack('>I4', life, 17), string.sub(life, 21, 21), string.sub(life, 22)
local vacant = why == 'U' and before == '0'
if why == 'R' then
  local beside = flags >= 50 and 4 + struct.unpack('>I4', rest) or 0 -- '2': with something beside
  vacant, why = #rest == beside, 'F'
end
if vacant then
  redis.call('DEL', KEYS[1])
else
  if why == 'U' then
    state, attempt = before, attempt - 1
  else
    local now = redis.call('TIME')
    state, since = why, struct.pack('>I8', now[1] * 1000 + math.floor(now[2] / 1000))
    failed = why == 'F' and math.min(failed + 1, 4294967295) or failed
  end
  record = 'IDM2' .. state .. string.char(flags - flags % 2) .. string.sub(record, 7, 30)
    .. struct.pack('>I4', attempt) .. ARGV[3] .. string.sub(record, 43, 74)
    .. string.sub(life, 1, 16) .. struct.pack('>I4', failed) .. '0' .. since .. rest
  redis.call('SET', KEYS[1], record, 'PX', ARGV[4])
end
if flags % 2 == 1 then
  redis.call('PUBLISH', KEYS[1], '')
end
return 1
