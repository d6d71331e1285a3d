-- Gives claims back: the posts were not stored. Deletes a claim of the very token, or of an earlier one
-- of the run: that of an earlier question for the same item, whose reply was lost.
--
-- ARGV: run; "sure", or "doubt" if copies of the questions may still come; for how long (ms) these are
--       turned away; the posts, each with its number.
-- Reply: the number of claims that were given back. The rules L1 and L2 are in docs/ledger.md.
local run, in_doubt, turned_away = ARGV[1], ARGV[2] == 'doubt', ARGV[3]
local FIRST_POST = 4

local function give_back(claim, token)
  local found = call('GET', claim) or NOBODY
  if found == token and not in_doubt then return call('DEL', claim) == 1 end
  local holder = found:sub(1, TOKEN)
  local is_ours = holder:sub(1, RUN) == run and not is_older(token, holder)
  if is_ours then holder = NOBODY end
  local back, others = given_back(found, run)
  if in_doubt and (not back or is_older(back, token)) then back = token end
  local left = holder .. (back or '') .. others
  if left == NOBODY then
    call('DEL', claim)
  elseif holder ~= NOBODY then
    call('SET', claim, left, 'KEEPTTL')
  elseif left ~= found then
    call('SET', claim, left, 'PX', turned_away)
  end
  return is_ours
end

local released = 0
for i = FIRST_POST, #ARGV do
  local post, token = ARGV[i]:sub(1, -NUMBER - 1), run .. ARGV[i]:sub(-NUMBER)
  if give_back(claim_of(post), token) then released = released + 1 end
end
return released
