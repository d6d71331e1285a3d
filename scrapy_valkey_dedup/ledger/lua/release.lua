
-- Gives claims back: the posts were not stored. Deletes a claim of the very token, or of an earlier one
-- of the run: that of an earlier question for the same item, whose reply was lost.
--
-- ARGV: run; "sure", or "doubt" if copies of the questions may still come; for how long (ms) these are
--       turned away; the posts, each with the token behind it.
-- Reply: the number of claims that were given back. The rules L1 and L2 are in docs/ledger.md.
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
