
-- Some generations on the list may have ended: the server has expired their buckets, so nothing is found in
-- them.
local list = call('GET', base) or ''

-- The bucket that holds the post, and the position of its generation in the list; or nil. A full bucket
-- continues one level down.
local function find(post)
  local member = sub(post, MEMBER)
  for at = 1, #list, ENTRY do
    local prefix = base .. ':' .. sub(list, at, at + END - 1) .. ':'
    local bucket = prefix .. sub(post, 1, 2)
    if call('SISMEMBER', bucket, member) == 1 then return bucket, at end
    for level = 2, sub(list, at + END, at + END) do
      if call('SCARD', bucket) < CAPACITY then break end
      bucket = prefix .. sub(post, 1, level + 1)
      if call('SISMEMBER', bucket, member) == 1 then return bucket, at end
    end
  end
  return nil
end
