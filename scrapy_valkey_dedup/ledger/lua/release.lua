
-- Releases claims, because the posts were not stored. Deletes a claim with this token, or with an earlier
-- one of the run: that of an earlier question about the same item, whose reply was lost.
--
-- ARGV: run; "sure", or "doubt" if copies of the questions may still arrive; for how long (ms) such copies
--       are rejected; the posts, each followed by its token.
-- Reply: the number of claims that were released. The rules L1 and L2 are in docs/ledger.md.
local run, in_doubt, turned_away = ARGV[1], ARGV[2] == 'doubt', ARGV[3]
local FIRST_POST = 4

local released, contested = 0, nil
for i = FIRST_POST, #ARGV, 2 do
  local claim = base .. ':c:' .. ARGV[i]
  local found = call('GET', claim)
  if found == ARGV[i + 1] and not in_doubt then
    released = released + call('DEL', claim)
  elseif found or in_doubt then
    contested = contested or {}
    contested[i] = true
  end
end
if not contested then return released end
