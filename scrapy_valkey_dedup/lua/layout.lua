-- The layout of one partition, and how to walk it. ledger.py puts this in front of every script.
--
-- KEYS[1] = vd1:{namespace:pp} names the partition. All keys below derive from it, so they share its
-- hash tag and its slot:
--   KEYS[1]                     set: the moments at which the partition's generations end
--   KEYS[1]:<end>:<path>        set of 64-bit integers: a bucket of the generation that ends then
--   KEYS[1]:c:<post>            string: a claim, its value is the token that holds it; and tokens that
--                               were given back and whose question may still come
--   KEYS[1]:r:<digest>          string: the reply to a question that recorded posts at once
-- A moment is in milliseconds of the server's clock; "0" is never. A post is its path, two octal
-- digits for the first level and one for each below it, followed by its member, a 64-bit integer as
-- decimal text: Lua's own numbers could not hold it.
local base = KEYS[1]
local call = redis.call -- many calls a post: two lookups less for each
local LEVELS = 8

-- One below the 512 at which a set of integers stops being an intset: 8 bytes of header and 511
-- integers fill jemalloc's 4096-byte class to the last byte, one more would take 5120.
local CAPACITY = 511

local function path_of(post, level) return post:sub(1, level + 1) end

local function member_of(post) return post:sub(LEVELS + 2) end

local function milliseconds()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function lasts_longer(a, b) return a.ends > b.ends end

-- The ends of the generations that still hold posts, the one that lasts longest first; and those
-- that are over.
local function generations(now)
  local live, over = {}, {}
  for _, text in ipairs(call('SMEMBERS', base)) do
    local ends = tonumber(text)
    if ends == 0 then ends = math.huge end
    local list = ends > now and live or over
    list[#list + 1] = {text = text, ends = ends}
  end
  table.sort(live, lasts_longer)
  return live, over
end

-- The bucket of a generation that holds the post, or nil. A full bucket is continued one level down.
local function find(generation, post)
  local prefix, member = base .. ':' .. generation.text .. ':', member_of(post)
  for level = 1, LEVELS do
    local bucket = prefix .. path_of(post, level)
    if call('SISMEMBER', bucket, member) == 1 then return bucket end
    if call('SCARD', bucket) < CAPACITY then return nil end
  end
  return nil
end

-- The live generation that keeps a post for the retention and not much longer: its end lies between
-- now + retention and now + retention + step. If there is none it begins here.
local function generation_to_write(live, over, now, retention, step)
  if retention == 0 then retention, step = math.huge, 0 end
  for _, generation in ipairs(live) do
    if generation.ends >= now + retention and generation.ends <= now + retention + step then
      return generation
    end
  end
  local ends = now + retention + step
  local generation = {text = ends == math.huge and '0' or string.format('%.0f', ends), ends = ends}
  live[#live + 1] = generation
  table.sort(live, lasts_longer)
  call('SADD', base, generation.text)
  for _, past in ipairs(over) do call('SREM', base, past.text) end
  if live[1].ends == math.huge then
    call('PERSIST', base)
  else
    call('PEXPIREAT', base, live[1].text)
  end
  return generation
end

-- All buckets of a generation end at the same moment: a level never vanishes above one that still
-- holds posts. Only the last level, which no real ledger reaches, grows beyond the capacity.
local function add(generation, post)
  local prefix, member = base .. ':' .. generation.text .. ':', member_of(post)
  for level = 1, LEVELS do
    local bucket = prefix .. path_of(post, level)
    local size = call('SCARD', bucket)
    if size < CAPACITY or level == LEVELS then
      call('SADD', bucket, member)
      if size == 0 and generation.text ~= '0' then
        call('PEXPIREAT', bucket, generation.text)
      end
      return
    end
    if call('SISMEMBER', bucket, member) == 1 then return end
  end
end

local function claim_of(post) return base .. ':c:' .. post end
