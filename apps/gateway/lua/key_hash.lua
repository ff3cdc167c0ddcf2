-- Who is calling? The route's context holds {salt = S, [hex sha256(S .. key)] = client name, ...}; no key is ever configured.
-- Whatever is missing, misspelt or unknown ends in 401: this filter runs wherever a route does not switch it off.

local bit = require("bit")
local band, bor, bxor, ror, rol = bit.band, bit.bor, bit.bxor, bit.ror, bit.rol
local shr, shl, int32, hex = bit.rshift, bit.lshift, bit.tobit, bit.tohex
local byte, char, rep = string.byte, string.char, string.rep

local LONGEST_KEY = 512 -- nobody unknown makes us hash a 60 KB header

-- The round constants are the first 32 bits of the fractional parts of the cube roots of the first 64 primes, and the start
-- values those of the square roots of the first 8. Doubles carry 53 bits, enough to compute them instead of listing them.
local ROUND, START = {}, {}
do
  local function fraction(x) return int32(math.floor((x - math.floor(x)) * 2 ^ 32)) end
  local function prime(n)
    for d = 2, math.floor(math.sqrt(n)) do
      if n % d == 0 then return false end
    end
    return true
  end
  local n = 2
  while #ROUND < 64 do
    if prime(n) then
      ROUND[#ROUND + 1] = fraction(n ^ (1 / 3))
      if #START < 8 then START[#START + 1] = fraction(math.sqrt(n)) end
    end
    n = n + 1
  end
end

local schedule = {} -- reused: a worker has one Lua state, and nothing yields while a digest is computed

local function big_endian(n) return char(band(shr(n, 24), 255), band(shr(n, 16), 255), band(shr(n, 8), 255), band(n, 255)) end

local function block(message, at, h)
  local w = schedule
  for t = 1, 16 do
    local p, q, r, s = byte(message, at + 4 * t - 4, at + 4 * t - 1)
    w[t] = bor(shl(p, 24), shl(q, 16), shl(r, 8), s)
  end
  for t = 17, 64 do
    local early, late = w[t - 15], w[t - 2]
    local s0 = bxor(ror(early, 7), ror(early, 18), shr(early, 3))
    local s1 = bxor(rol(late, 15), rol(late, 13), shr(late, 10))
    w[t] = int32(w[t - 16] + s0 + w[t - 7] + s1)
  end
  local a, b, c, d, e, f, g, i = h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8]
  for t = 1, 64 do
    local mix1 = bxor(ror(e, 6), ror(e, 11), rol(e, 7))
    local choice = bxor(g, band(e, bxor(f, g)))
    local one = int32(i + mix1 + choice + ROUND[t] + w[t])
    local mix0 = bxor(ror(a, 2), ror(a, 13), rol(a, 10))
    local majority = bor(band(a, b), band(c, bor(a, b)))
    i, g, f, e = g, f, e, int32(d + one)
    d, c, b, a = c, b, a, int32(one + mix0 + majority)
  end
  h[1], h[2], h[3], h[4] = int32(h[1] + a), int32(h[2] + b), int32(h[3] + c), int32(h[4] + d)
  h[5], h[6], h[7], h[8] = int32(h[5] + e), int32(h[6] + f), int32(h[7] + g), int32(h[8] + i)
end

local function sha256(text)
  local message = text .. "\128" .. rep("\0", (55 - #text) % 64) .. "\0\0\0\0" .. big_endian(#text * 8)
  local h = { START[1], START[2], START[3], START[4], START[5], START[6], START[7], START[8] }
  for at = 1, #message, 64 do
    block(message, at, h)
  end
  return hex(h[1]) .. hex(h[2]) .. hex(h[3]) .. hex(h[4]) .. hex(h[5]) .. hex(h[6]) .. hex(h[7]) .. hex(h[8])
end

-- Digests of keys that were right. A wrong key is never kept, so strangers can neither fill nor flush this; whether a digest
-- is (still) one of the route's is looked up every time.
local MOST_KNOWN = 512
local known, count = {}, 0

local function remember(salted, digest)
  if count >= MOST_KNOWN then
    known, count = {}, 0
  end
  known[salted], count = digest, count + 1
end

local function caller(context, authorization)
  local key = authorization and authorization:match("^[Bb]earer +(.+)$")
  if key == nil or #key > LONGEST_KEY or context == nil then return nil end
  -- userdata: only get() reads it, context["salt"] would be nil for ever; flat, because a table would be rebuilt per request
  local salt = context:get("salt")
  if type(salt) ~= "string" or salt == "" then return nil end
  local salted = salt .. key
  local digest = known[salted]
  if digest ~= nil then return context:get(digest) end
  digest = sha256(salted)
  local client = context:get(digest)
  if type(client) == "string" then remember(salted, digest) end
  return client
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local client = caller(handle:filterContext(), headers:get("authorization"))
  if type(client) ~= "string" then
    handle:respond({ [":status"] = "401", ["www-authenticate"] = 'Bearer realm="portway"' }, "key is missing or wrong")
    return
  end
  headers:remove("authorization") -- the model never sees the key
  headers:replace("x-portway-client", client) -- for the access log; what a client sends under this name is gone already
end
