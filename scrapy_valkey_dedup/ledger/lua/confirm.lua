
-- Remembers posts, because they are stored. This is unconditional: a stored post is remembered even if the
-- claim was lost or taken over in the meantime. Only the run's own claim is deleted, with any number, as
-- claims on a remembered post no longer count. The rules F1 and F2 are in docs/ledger.md.
--
-- ARGV: run; retention and step (ms; retention 0 = forever); the posts.
-- Reply: the number of posts.
local run, retention, step = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local FIRST_POST = 4

-- If all runs have the same retention, the generation that ends last is the one to write to.
local list, prefix = call('GET', base) or '', nil
local ends = tonumber(sub(list, 1, END))
if retention == 0 and ends == 0 and #list == ENTRY then
  prefix = base .. ':' .. sub(list, 1, END) .. ':'
elseif retention > 0 and ends and ends > 0 then
  local lasts = ends - milliseconds(list)
  if lasts >= retention and lasts <= retention + step then
    prefix = base .. ':' .. sub(list, 1, END) .. ':'
  end
end

local left
for i = FIRST_POST, #ARGV do
  local post = ARGV[i]
  local bucket = prefix and prefix .. sub(post, 1, 2)
  local size = bucket and call('SCARD', bucket) or CAPACITY
  if size < CAPACITY then
    call('SADD', bucket, sub(post, MEMBER))
    if size == 0 and ends > 0 then call('PEXPIREAT', bucket, ends) end
  else
    left = left or {}
    left[#left + 1] = post
  end
  local claim = base .. ':c:' .. post
  local found = call('GET', claim)
  if found and sub(found, 1, #run) == run then call('DEL', claim) end
end
if not left then return #ARGV - FIRST_POST + 1 end
