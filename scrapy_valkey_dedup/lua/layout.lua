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

-- The server's clock, by which its keys end. No client says what time it is: one whose clock is years
-- ahead would make all forget. And TIME is refused in scripts by ElastiCache Serverless. But a key that
-- ends tells when it does, and how long that is from now.
local moment
local function milliseconds()
  if moment then return moment end
  local ends = call('PEXPIRETIME', base)
  if ends > 0 then
    moment = ends - call('PTTL', base)
  else -- there is no list of generations yet, or it never ends
    local clock = base .. ':t'
    call('SET', clock, '', 'PX', 1000)
    moment = call('PEXPIRETIME', clock) - 1000
    call('DEL', clock)
  end
  return moment
end

local function lasts_longer(a, b) return a.ends > b.ends end

-- All generations that are listed, the one that lasts longest first. Some may be over: the server has
-- taken their buckets away, so that nothing is found in them.
local function generations()
  local all = {}
  for i, text in ipairs(call('SMEMBERS', base)) do
    local ends = tonumber(text)
    if ends == 0 then ends = math.huge end
    all[i] = {text = text, ends = ends}
  end
  table.sort(all, lasts_longer)
  return all
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

-- The generation that keeps a post for the retention and not much longer: its end lies between
-- now + retention and now + retention + step. If there is none it begins here. Those that are over leave
-- the list.
local function generation_to_write(all, retention, step)
  local now = 0
  if retention > 0 or #all > 1 then now = milliseconds() end
  while #all > 0 and all[#all].ends <= now do call('SREM', base, table.remove(all).text) end
  if retention == 0 then retention, step = math.huge, 0 end
  for _, generation in ipairs(all) do
    if generation.ends >= now + retention and generation.ends <= now + retention + step then
      return generation
    end
  end
  local ends = now + retention + step
  local generation = {text = ends == math.huge and '0' or string.format('%.0f', ends), ends = ends}
  all[#all + 1] = generation
  table.sort(all, lasts_longer)
  call('SADD', base, generation.text)
  if all[1].ends == math.huge then
    call('PERSIST', base)
  else
    call('PEXPIREAT', base, all[1].text)
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
