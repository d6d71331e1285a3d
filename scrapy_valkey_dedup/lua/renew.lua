-- Lengthens the life of claims that are still this run's. Makes none.
--
-- ARGV: run; lifetime (ms) of a claim; the posts, each with its number.
-- Reply: the number of claims that were renewed. The rule N1 is in docs/ledger.md.
local run, lifetime = ARGV[1], ARGV[2]
local renewed = 0
for i = 3, #ARGV do
  local post, token = post_and_token(run, ARGV[i])
  local claim = claim_of(post)
  local found = redis.call('GET', claim)
  if found and holder_of(found) == token then
    redis.call('SET', claim, found, 'PX', lifetime)
    renewed = renewed + 1
  end
end
return renewed
