
-- Remembers posts, because they are stored. This is unconditional: a stored post is remembered even if the
-- claim was lost or taken over in the meantime. Only the run's own claim is deleted, with any number, as
-- claims on a remembered post no longer count. The rules F1 and F2 are in docs/ledger.md.
--
-- ARGV: run; retention and step (ms; retention 0 = forever); the posts.
-- Reply: the number of posts.
local run, retention, step = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local FIRST_POST = 4

-- If all runs have the same retention, the generation that ends last is the one to write to. The list expires
-- with it.
local list, lasts = call('GET', base) or '', -1
if retention > 0 and #list > 0 then lasts = call('PTTL', base) end
local is_written = lasts >= retention and lasts <= retention + step
if retention == 0 then is_written = #list == ENTRY and tonumber(sub(list, 1, END)) == 0 end
local prefix = base .. ':' .. sub(list, 1, END) .. ':'
local depth = is_written and tonumber(sub(list, ENTRY, ENTRY))

-- Adds a post to the lowest bucket on its path that has members, or below that; not if the generation would
-- need one more level. All buckets above one with members are full, so only they have to be asked for the post.
local function add_low(post)
  local level, bucket, size = depth + 1, nil, 0
  repeat
    level = level - 1
    bucket = prefix .. sub(post, 1, level + 1)
    size = call('SCARD', bucket)
  until size > 0 or level == 1
  if size >= CAPACITY then
    if level == depth then return false end
    level, size = level + 1, 0
    bucket = prefix .. sub(post, 1, level + 1)
  end
  local member = sub(post, MEMBER)
  for above = level - 1, 1, -1 do
    if call('SISMEMBER', prefix .. sub(post, 1, above + 1), member) == 1 then return true end
  end
  call('SADD', bucket, member)
  if size == 0 and retention > 0 then call('PEXPIREAT', bucket, tonumber(sub(list, 1, END))) end
  return true
end

local left
for i = FIRST_POST, #ARGV do
  local post = ARGV[i]
  if not is_written or not add_low(post) then
    left = left or {}
    left[#left + 1] = post
  end
  local claim = base .. ':c:' .. post
  local found = call('GET', claim)
  if found and sub(found, 1, #run) == run then call('DEL', claim) end
end
if not left then return #ARGV - FIRST_POST + 1 end
