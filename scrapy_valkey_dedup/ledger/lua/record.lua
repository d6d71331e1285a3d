
-- The rest of claim.lua, for a question that records: its posts count as stored at once, unless another run
-- has a claim on them.
--
-- From then on they are seen. So if the reply is lost and the question is asked again, the reply must be the
-- same as before: otherwise no run would store these posts.
local recorded = base .. ':r:' .. redis.sha1hex(table.concat(ARGV, ' '))
local before = call('GET', recorded)
if before then return cmsgpack.unpack(before) end

local met = {}
for i = FIRST_POST, #ARGV do
  local post, bucket, generation = ARGV[i], nil, nil
  local reply = SEEN -- if it stands twice in this question, too
  if not ignore and not met[post] then bucket, generation = find(post) end
  if bucket then
    if refresh and ends_too_soon(generation) then move(post, bucket) end
  elseif not met[post] then
    local claim = base .. ':c:' .. post
    local found = call('GET', claim)
    reply = found and contend(tokens_in(found)) or NEW
    if reply == NEW or reply == TAKEN_OVER then
      if found then call('DEL', claim) end
      remember(post)
    end
  end
  met[post] = reply == SEEN or reply == NEW or reply == TAKEN_OVER
  replies[i - FIRST_POST + 1] = reply
end
call('SET', recorded, cmsgpack.pack(replies), 'PX', lifetime)
return replies
