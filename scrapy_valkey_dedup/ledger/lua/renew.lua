
-- Extends the lifetime of claims that this run still holds. Makes no new claims.
--
-- ARGV: run; lifetime (ms) of a claim; the posts, each with its number.
-- Reply: the number of claims that were renewed. The rule N1 is in docs/ledger.md.
local run, lifetime = ARGV[1], ARGV[2]
local renewed = 0
for i = 3, #ARGV do
  local post, token = ARGV[i]:sub(1, -NUMBER - 1), run .. ARGV[i]:sub(-NUMBER)
  local claim = base .. ':c:' .. post
  local found = call('GET', claim)
  if found and found:sub(1, TOKEN) == token then
    call('SET', claim, found, 'PX', lifetime)
    renewed = renewed + 1
  end
end
return renewed
