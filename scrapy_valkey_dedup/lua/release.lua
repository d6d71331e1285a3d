-- Gives claims back: the posts were not stored. Deletes one's own claims only.
--
-- ARGV: run; the posts.
-- Reply: the number of claims that were this run's.
local run = ARGV[1]
local released = 0
for i = 2, #ARGV do
  local claim = claim_of(ARGV[i])
  if redis.call('GET', claim) == run then released = released + redis.call('DEL', claim) end
end
return released
