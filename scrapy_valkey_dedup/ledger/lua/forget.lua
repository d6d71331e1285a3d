
-- Forgets posts, in every generation. A full bucket must stay full, or the posts in the levels below it
-- would no longer be found: a filler replaces the post that is removed.
--
-- ARGV: the posts.
-- Reply: the number of posts that were remembered.

local all = generations(call('GET', base) or '')

-- The generation without an end keeps its name, so it is searched even if an eviction took it off the list.
all[#all + 1] = {text = string.rep('0', END)}

-- Any integer except the member itself will do: a future post has this one as its member with the same
-- chance as any other. The first twelve digits keep the fillers of one bucket distinct.
local function fill(bucket, member)
  local filler = tonumber(member:sub(1, 12))
  while call('SADD', bucket, string.format('%.0f', filler)) == 0 do filler = filler + 1 end
end

-- Every level is searched, even below a bucket with room: after an eviction a post may be there twice.
local function forget(generation, post)
  local prefix, member, found = base .. ':' .. generation.text .. ':', sub(post, MEMBER), false
  for level = 1, LEVELS do
    local bucket = prefix .. sub(post, 1, level + 1)
    if call('SISMEMBER', bucket, member) == 1 then
      if call('SCARD', bucket) >= CAPACITY then fill(bucket, member) end
      call('SREM', bucket, member)
      found = true
    end
  end
  return found
end

local forgotten = 0
for i = 1, #ARGV do
  local remembered = false
  for _, generation in ipairs(all) do
    if forget(generation, ARGV[i]) then remembered = true end
  end
  if remembered then forgotten = forgotten + 1 end
end
return forgotten
