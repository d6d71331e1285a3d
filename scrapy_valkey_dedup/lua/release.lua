-- Gives claims back: the posts were not stored. Deletes one's own claims only.
--
-- ARGV: run; then two for each post: path, member.
-- Reply: the number of claims that were this run's.
local run = ARGV[1]
local released = 0
for i = 2, #ARGV, 2 do
  local key = claim_key(ARGV[i], ARGV[i + 1])
  if redis.call('GET', key) == run then released = released + redis.call('DEL', key) end
end
return released
