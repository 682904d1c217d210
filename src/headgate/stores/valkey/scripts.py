"""What runs inside the store, each atomically.

Times are the store's own clock (TIME), kept as seconds since 2026 so that a double has nanoseconds to spare."""

EPOCH = 1767225600
NOW = f"local t = redis.call('TIME'); local now = (tonumber(t[1]) - {EPOCH}) + tonumber(t[2]) / 1e6\n"
LIFE = """
local function life(key, known)  -- names what the store knows: another one, and 'again', once it was emptied
  redis.call('SET', key, string.format('%.6f %s', now, known == '' and 'first' or 'again'), 'NX')
  local named = redis.call('GET', key)
  if known ~= '' and known ~= named and string.match(named, ' first$') then
    -- the first to ask after that was one who had never heard of it
    named = string.format('%.6f again', now)
    redis.call('SET', key, named)
  end
  redis.call('PEXPIRE', key, 600000)
  return named
end
"""

DRAW = (
    NOW
    + LIFE
    + """
-- KEYS: bucket, 'tat born at'; the store's life. ARGV: limit a minute, debt, want, least, level, known life.
-- GCRA: tat is when the bucket is full again. at: when that was written: a clock that is put back keeps nobody waiting
local interval = 60 / tonumber(ARGV[1])
local known, born, at = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%S+) (%S+)$')
born = born or string.format('%.6f', now)
local tat = math.max((known or now) - math.max((at or now) - now, 0), now)
tat = math.max(tat + tonumber(ARGV[2]) * interval, now + tonumber(ARGV[5]))
local free = math.floor((60 - (tat - now)) / interval + 1e-6)
local granted = math.min(tonumber(ARGV[3]), free)
if granted < tonumber(ARGV[4]) then granted = 0 end
tat = tat + granted * interval
-- two seconds longer than it is needed: a key that is missing before that was lost
redis.call('SET', KEYS[1], string.format('%.9f %s %.6f', tat, born, now), 'PX', math.ceil((tat - now) * 1000) + 2000)
return {granted, string.format('%.9f', tat - now), born, life(KEYS[2], ARGV[6])}
"""
)

SEAT = (
    NOW
    + LIFE
    + """
-- KEYS: bucket, a hash of holder -> 'places until'; the store's life.
-- ARGV: holder, limit, held, want, least, seconds, known life, seconds for which an emptied store grants nothing
local taken = 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local places, ends = string.match(all[i + 1], '^(%d+) (%S+)$')
  if all[i] ~= ARGV[1] then
    if tonumber(ends) < now then redis.call('HDEL', KEYS[1], all[i]) else taken = taken + tonumber(places) end
  end
end
local held = tonumber(ARGV[3])
local granted = math.max(math.min(tonumber(ARGV[4]), tonumber(ARGV[2]) - taken - held), 0)
local named = life(KEYS[2], ARGV[7])
local since = string.match(named, '^(%S+) again$')
-- emptied just now: others may hold places that it knows nothing of
if since and math.abs(now - since) < tonumber(ARGV[8]) then granted = 0 end
if granted < tonumber(ARGV[5]) then granted = 0 end
if held + granted > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %.3f', held + granted, now + tonumber(ARGV[6])))
  redis.call('PEXPIRE', KEYS[1], math.ceil(tonumber(ARGV[6]) * 2000))
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return {granted, named}
"""
)

BEAT = (
    NOW
    + LIFE
    + """
-- KEYS: replicas (by last beat), notices (name -> 'until told by text'), what each says of itself, the store's life;
-- ARGV: holder, silence that ends one, what it says of itself, known life; then name, seconds, text of each notice
redis.call('ZADD', KEYS[1], now, ARGV[1])
local since = now - tonumber(ARGV[2])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', since)) do redis.call('HDEL', KEYS[3], gone) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', since)
redis.call('PEXPIRE', KEYS[1], 600000)
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
redis.call('PEXPIRE', KEYS[3], 600000)
for i = 5, #ARGV, 3 do
  local value = string.format('%.3f %.3f %s %s', now + tonumber(ARGV[i + 1]), now, ARGV[1], ARGV[i + 2])
  redis.call('HSET', KEYS[2], ARGV[i], value)
  redis.call('PEXPIRE', KEYS[2], 3600000)
end
local out = {redis.call('ZRANGE', KEYS[1], 0, -1), life(KEYS[4], ARGV[4])}
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local ends, told, by, text = string.match(all[i + 1], '^(%S+) (%S+) (%S+) (.*)$')
  if tonumber(ends) < now then
    redis.call('HDEL', KEYS[2], all[i])
  else
    out[#out + 1] = {all[i], string.format('%.3f', ends - now), string.format('%.3f', now - told), by, text}
  end
end
return out
"""
)

MEMBERS = (
    NOW
    + """
-- KEYS: replicas, what each says of itself; ARGV: seconds of silence that end one
local out = {}
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local last = tonumber(redis.call('ZSCORE', KEYS[1], all[i]) or '-inf')
  if now - last > tonumber(ARGV[1]) then
    redis.call('HDEL', KEYS[2], all[i])
  else
    out[#out + 1] = {all[i], string.format('%.3f', now - last), all[i + 1]}
  end
end
return out
"""
)

CLAIM = """
-- KEYS: name, a hash; ARGV: print, holder, milliseconds
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'print', ARGV[1], 'holder', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'mine', ''}
end
if redis.call('HGET', KEYS[1], 'print') ~= ARGV[1] then return {'other', ''} end
local kept = redis.call('HGET', KEYS[1], 'kept')
if kept then return {'done', kept} end
return {'running', ''}
"""

KEEP = """
-- KEYS: name; ARGV: holder, what is kept, milliseconds
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'kept', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""

RENEW = """
-- KEYS: name; ARGV: holder, milliseconds
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] and redis.call('HEXISTS', KEYS[1], 'kept') == 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""

DROP = """
-- KEYS: name; ARGV: holder
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] and redis.call('HEXISTS', KEYS[1], 'kept') == 0 then
  redis.call('DEL', KEYS[1])
end
return 0
"""
