
-- What the keys of each generation's buckets begin with, and how many levels it has. Some generations on the
-- list may have ended: the server has expired their buckets, so nothing is found in them.
local list = call('GET', base) or ''
local prefixes, depths = {}, {}
for at = 1, #list, ENTRY do
  prefixes[#prefixes + 1] = base .. ':' .. sub(list, at, at + END - 1) .. ':'
  depths[#prefixes] = tonumber(sub(list, at + END, at + END))
end

-- The bucket that holds the post, and the position of its generation in the list; or nil. The deepest level
-- comes first, because most posts are there.
local function find(post)
  local member = sub(post, MEMBER)
  for number = 1, #prefixes do
    local prefix = prefixes[number]
    for level = depths[number], 1, -1 do
      local bucket = prefix .. sub(post, 1, level + 1)
      if call('SISMEMBER', bucket, member) == 1 then return bucket, (number - 1) * ENTRY + 1 end
    end
  end
  return nil
end
