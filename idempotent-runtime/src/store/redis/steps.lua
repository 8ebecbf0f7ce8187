#!lua flags=no-writes,allow-oom
-- KEYS[1]  the record
-- ARGV[1]  the owner's nonce
-- Returns  the journal; nil where the claim is lost
local record = redis.call('GET', KEYS[1])
if not record or string.sub(record, 7, 22) ~= ARGV[1] or string.sub(record, 5, 5) ~= 'R' then
  return nil
end
if string.sub(record, 1, 4) == 'IDM1' then
  return ''
end
local at = 104
if string.byte(record, 6) >= 50 then -- '2': with something beside
  at = 108 + struct.unpack('>I4', record, 104)
end
return string.sub(record, at)
