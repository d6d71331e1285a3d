
-- Asks which posts this run may store. Remembered posts are seen, the others are claimed.
--
-- ARGV: retention and step (ms; retention 0 = forever); lifetime (ms) of a claim, or of a recorded reply;
--       what to do with a remembered post: "refresh", "keep", or "ignore" that it is remembered; "" to
--       claim, or the name of the question to record (the same name when the question is asked again);
--       the tokens of dead runs, concatenated; the token that asks; the posts.
-- Reply, one for each post: 0 new, 1 seen, 2 new and taken over from a dead run, or the token that
--       holds it. The rules C1 to C7 and Q1 to Q3 are in docs/ledger.md.
local lifetime, token = ARGV[3], ARGV[7]
local refresh, ignore, record = ARGV[4] == 'refresh', ARGV[4] == 'ignore', ARGV[5] ~= ''
local FIRST_POST = 8
local NEW, SEEN, TAKEN_OVER = 0, 1, 2

local too_soon = {}
local function ends_too_soon(generation)
  local found = too_soon[generation]
  if found == nil then
    local ends, retention = tonumber(sub(list, generation, generation + END - 1)), tonumber(ARGV[1])
    found = ends > 0 and (retention == 0 or ends < milliseconds(list) + retention)
    too_soon[generation] = found
  end
  return found
end

-- ``contested``: the values of other runs' claims; ``old``: the buckets of posts that are to move.
local replies, contested, old = {}, nil, nil
if not record then
  for i = FIRST_POST, #ARGV do
    local post, bucket, generation = ARGV[i], nil, nil
    if not ignore then bucket, generation = find(post) end
    if bucket then
      replies[i - FIRST_POST + 1] = SEEN
      if refresh and ends_too_soon(generation) then
        old = old or {}
        old[i] = bucket
      end
    else
      replies[i - FIRST_POST + 1] = NEW
      local found = call('SET', base .. ':c:' .. post, token, 'NX', 'GET', 'PX', lifetime)
      if found and found ~= token then
        contested = contested or {}
        contested[i] = found
      end
    end
  end
  if not contested and not old then return replies end
end
