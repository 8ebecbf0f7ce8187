#!lua flags=allow-oom
-- Makes the fence of a first claim on first use. A takeover makes its own with the claim. An owner that was taken over
-- gets nil: a fence that is drawn now would be above its successor's.
-- KEYS[1]  the record
-- ARGV[1]  the owner's nonce
-- Returns  the fence, nil where the claim is lost
local header = redis.call('GETRANGE', KEYS[1], 0, 73)
if string.sub(header, 7, 22) ~= ARGV[1] or string.sub(header, 5, 5) ~= 'R' then
  return nil
end
local fence = struct.unpack('>I8', header, 23)
if fence == 0 then
  local now = redis.call('TIME')
  fence = now[1] * 1000000 + now[2]
  redis.call('SETRANGE', KEYS[1], 22, struct.pack('>I8', fence))
end
return fence
