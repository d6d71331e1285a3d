
-- The value of a claim: the token that holds it, followed by tokens that were released in doubt.
--
-- A token is a run's name and a number that grows with each question, and wraps around.
local RUN, NUMBER, TOKEN, CIRCLE = 9, 3, 12, 16777216
local NOBODY = '------------'

-- Compares two tokens of one run.
local function is_older(token, other)
  local high, middle, low = token:byte(RUN + 1, TOKEN)
  local its_high, its_middle, its_low = other:byte(RUN + 1, TOKEN)
  local ahead = ((its_high - high) * 256 + its_middle - middle) * 256 + its_low - low
  return ahead % CIRCLE > 0 and ahead % CIRCLE < CIRCLE / 2
end

-- The token that a run has released while a copy of its question was still on its way, or nil; and the
-- tokens that other runs have released so.
local function given_back(claim, run)
  for at = TOKEN + 1, #claim, TOKEN do
    local token = claim:sub(at, at + TOKEN - 1)
    if token:sub(1, RUN) == run then
      return token, claim:sub(TOKEN + 1, at - 1) .. claim:sub(at + TOKEN)
    end
  end
  return nil, claim:sub(TOKEN + 1)
end

-- The value of a claim, if it consists of tokens. Otherwise another program wrote it: no run holds the post.
local function tokens_in(claim)
  return #claim > 0 and #claim % TOKEN == 0 and claim or NOBODY
end
