-- Remembers posts: they are stored. Unconditional: whoever stored a post, it is remembered, even if
-- the claim was lost or taken over meanwhile; only one's own claim is deleted.
--
-- ARGV: run, retention and step (ms; retention 0 = for ever); then two for each post: path, member.
-- Reply: the number of posts.
local run, retention, step = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = milliseconds()
local live, over = generations(now)
local generation = generation_to_write(live, over, now, retention, step)
for i = 4, #ARGV, 2 do
  local path, member = ARGV[i], ARGV[i + 1]
  add(generation, path, member)
  local key = claim_key(path, member)
  if redis.call('GET', key) == run then redis.call('DEL', key) end
end
return (#ARGV - 3) / 2
