-- Remembers posts: they are stored. Unconditional: a stored post is remembered, even if the claim was
-- lost or taken over meanwhile; only the run's own claim is deleted, whatever its number: on a post
-- that is remembered no claim counts any more. The rules F1 and F2 are in docs/ledger.md.
--
-- ARGV: run; retention and step (ms; retention 0 = forever); the posts.
-- Reply: the number of posts.
local run, retention, step = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local FIRST_POST = 4
local generation = generation_to_write(generations(), retention, step)
for i = FIRST_POST, #ARGV do
  add(generation, ARGV[i])
  local claim = claim_of(ARGV[i])
  local found = call('GET', claim)
  if found and found:sub(1, #run) == run then call('DEL', claim) end
end
return #ARGV - FIRST_POST + 1
