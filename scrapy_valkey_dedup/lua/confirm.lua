-- Remembers posts: they are stored. Unconditional: whoever stored a post, it is remembered, even if
-- the claim was lost or taken over meanwhile; only one's own claim is deleted.
--
-- ARGV: run; retention and step (ms; retention 0 = for ever); the posts.
-- Reply: the number of posts.
local run, retention, step = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local FIRST_POST = 4
local now = milliseconds()
local live, over = generations(now)
local generation = generation_to_write(live, over, now, retention, step)
for i = FIRST_POST, #ARGV do
  add(generation, ARGV[i])
  local claim = claim_of(ARGV[i])
  if redis.call('GET', claim) == run then redis.call('DEL', claim) end
end
return #ARGV - FIRST_POST + 1
