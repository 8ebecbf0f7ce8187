#!lua flags=allow-oom
-- Leaves the key as an operator says, if its record is the one that was seen.
-- KEYS[1]  the record
-- ARGV[1]  the owner that was seen; ARGV[2] the state that was seen, one letter; ARGV[3] '1' where a live run is resolved, too;
-- ARGV[4]  the owner from here on; ARGV[5] the state from here on, one letter, or none where the record goes;
-- ARGV[6]  the payload; ARGV[7] the context, with its length in front; ARGV[8] the time to live in the record's header;
-- ARGV[9]  how long to keep it, in ms
-- Returns  1 applied (now or before), 0 changed, nil vacant, or what is left of the lease in ms, negated (< 0)
local record = redis.call('GET', KEYS[1])
if not record then
  return nil
end
local magic, state, owner = string.sub(record, 1, 4), string.sub(record, 5, 5), string.sub(record, 7, 22)
if owner == ARGV[4] then
  return 1
end
if owner ~= ARGV[1] or state ~= ARGV[2] then
  return 0
end
if state == 'R' and ARGV[3] ~= '1' then
  local ttl = redis.call('PTTL', KEYS[1])
  -- Without an end, as in claim_held.lua: a run is alive.
  local left = ttl < 0 and 4000000000000 or ttl - struct.unpack('>I8', record, 35)
  if left > 0 then
    return -left
  end
end
local flags, to = string.byte(record, 6), ARGV[5]
if to == '' then
  redis.call('DEL', KEYS[1])
else
  local life, rest = string.sub(record, 75, 103), string.sub(record, 104)
  if magic == 'IDM1' then
    life, rest = owner .. string.rep('\0', 13), string.sub(record, 75)
  end
  local arguments, behind, kind = '', rest, '4'
  if flags >= 50 then -- '2': with something beside
    local len = struct.unpack('>I4', rest)
    arguments, behind = string.sub(rest, 5, 4 + len), string.sub(rest, 5 + len)
    if flags >= 52 then -- '4': with a context
      arguments = string.sub(arguments, 3 + struct.unpack('>I2', arguments))
    end
    if flags % 4 >= 2 then -- '2', '3', '6', '7': with arguments
      kind = '6'
    end
  end
  local attempt, failed, payload = string.sub(record, 31, 34), string.sub(life, 17, 20), ARGV[6]
  if to == 'F' then
    -- As before its first run. The journal stays: that of a run that is not done, or of an exhausted key.
    attempt, failed = string.rep('\0', 4), string.rep('\0', 4)
    payload = (state == 'R' or state == 'F' or state == 'A' or state == 'X') and behind or ''
  end
  local beside, now = ARGV[7] .. arguments, redis.call('TIME')
  record = 'IDM2' .. to .. kind .. ARGV[4] .. string.sub(record, 23, 30) .. attempt .. ARGV[8] .. string.sub(record, 43, 74)
    .. string.sub(life, 1, 16) .. failed .. '0' .. struct.pack('>I8', now[1] * 1000 + math.floor(now[2] / 1000))
    .. struct.pack('>I4', #beside) .. beside .. payload
  redis.call('SET', KEYS[1], record, 'PX', ARGV[9])
end
if flags % 2 == 1 then
  redis.call('PUBLISH', KEYS[1], '')
end
return 1
