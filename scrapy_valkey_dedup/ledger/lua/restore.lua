
-- Remembers what stood in a bucket of another ledger, in the generation that ends when that bucket did.
--
-- Of a bucket's members no more of the path is known than led to the bucket. So a member goes into the
-- first bucket on that path with room, and no deeper. If all are full, because runs here have stored other
-- posts in the same generation, it goes into one that ends a millisecond later.
--
-- ARGV: the end, as it stands in a list; the path of the bucket; the members.
-- Reply: how many of them were in none of these generations; -1 if the end is over.
local path, FIRST_MEMBER = ARGV[2], 3
local DEEPEST = #path - 1
local LATEST = 9999999999999 -- of 13 digits
local is_forever = ARGV[1] == string.rep('0', END)
local first_end = is_forever and LATEST + 1 or tonumber(ARGV[1])

local list = call('GET', base) or ''
local all = generations(list)
if not is_forever then
  local now = milliseconds(list)
  if first_end <= now then return -1 end
  while #all > 0 and all[#all].ends <= now do table.remove(all) end
end

-- The generation so many milliseconds behind the first one; behind the latest that can be written, before it.
local function generation_behind(count)
  local ends = first_end + count
  if ends > LATEST and count > 0 then ends = LATEST - count end
  if ends > LATEST then ends = math.huge end
  for _, generation in ipairs(all) do
    if generation.ends == ends then return generation end
  end
  local text = string.format('%013.0f', ends == math.huge and 0 or ends)
  all[#all + 1] = {text = text, ends = ends, levels = 1}
  local generation = all[#all]
  table.sort(all, lasts_longer)
  write_list(all)
  return generation
end

-- A bucket was empty: it ends with its generation.
local function begin(generation, bucket)
  if generation.ends < math.huge then call('PEXPIREAT', bucket, generation.ends) end
end

-- The generation has members in a level. They may have been there all the time, and the list have been evicted.
local function reach(generation, level)
  if level > generation.levels then
    generation.levels = level
    write_list(all)
  end
end

-- How many members were added: 1, 0 if it was there; nil if there is no room.
local function place(generation, member)
  local prefix = base .. ':' .. generation.text .. ':'
  for level = 1, DEEPEST do
    local bucket = prefix .. sub(path, 1, level + 1)
    local size = call('SCARD', bucket)
    if call('SISMEMBER', bucket, member) == 1 or size < CAPACITY or level == LEVELS then
      local added = call('SADD', bucket, member)
      if size == 0 then begin(generation, bucket) end
      reach(generation, level)
      return added
    end
  end
  return nil
end

-- The bucket itself, if it is empty and all above it are full, as where nobody else writes.
local function empty_bucket(generation)
  local prefix = base .. ':' .. generation.text .. ':'
  for level = 1, DEEPEST - 1 do
    if call('SCARD', prefix .. sub(path, 1, level + 1)) < CAPACITY then return nil end
  end
  local bucket = prefix .. path
  return call('SCARD', bucket) == 0 and #ARGV - FIRST_MEMBER < CAPACITY and bucket or nil
end

local generation = generation_behind(0)
local bucket = empty_bucket(generation)
if bucket then
  local added = call('SADD', bucket, unpack(ARGV, FIRST_MEMBER))
  begin(generation, bucket)
  reach(generation, DEEPEST)
  return added
end

local added = 0
for i = FIRST_MEMBER, #ARGV do
  local count, placed = 0, place(generation, ARGV[i])
  while not placed do
    count = count + 1
    placed = place(generation_behind(count), ARGV[i])
  end
  added = added + placed
end
return added
