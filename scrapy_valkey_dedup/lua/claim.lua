-- Asks for posts: which may I store? Remembered ones are answered as seen, the others are claimed.
--
-- ARGV: retention, step (ms; retention 0 = forever) and lifetime (ms) of a claim, or of a recorded
--       reply; what to do with a remembered one: "refresh", "keep", or "ignore" that it is
--       remembered; "" to claim, or to record the name of the question, the same when it is put
--       again; the tokens that were seen dead, one behind the other; the token that asks; the posts.
-- Reply, one for each post: 0 new, 1 seen, 2 new and taken over from a dead run, or the token that
--       holds it. The rules C1 to C7 and Q1 to Q3 are in docs/ledger.md.
local retention, step, lifetime = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local refresh, ignore = ARGV[4] == 'refresh', ARGV[4] == 'ignore'
local question, token = ARGV[5], ARGV[7]
local FIRST_POST = 8
local NEW, SEEN, TAKEN_OVER = 0, 1, 2

-- What is recorded is seen from then on. So if the reply was lost and the question is put again, the
-- reply must be the same: else nobody would store these posts.
local record, recorded = question ~= '', nil
if record then
  recorded = base .. ':r:' .. redis.sha1hex(table.concat(ARGV, ' '))
  local replies = call('GET', recorded)
  if replies then return cmsgpack.unpack(replies) end
end

local all, written = generations(), nil

local function remember(post)
  written = written or generation_to_write(all, retention, step)
  add(written, post)
end

local function ends_too_soon(generation)
  if retention == 0 then return generation.ends < math.huge end
  return generation.ends < milliseconds() + retention
end

local function find_in_all(post)
  if ignore then return nil end
  for _, generation in ipairs(all) do
    local bucket = find(generation, post)
    if bucket then return bucket, generation end
  end
  return nil
end

-- Moves a duplicate to the generation that is written now, which lasts longer: else what is met again
-- and again would stand in every generation. Only a full bucket keeps its copy, to stay full.
local function move(post, bucket)
  remember(post)
  if call('SCARD', bucket) < CAPACITY then call('SREM', bucket, member_of(post)) end
end

-- Returns what stands in the claim, if it is something else than this token. To record: the post counts
-- as stored at once; only a claim of somebody else stands in the way.
local function acquire(post)
  local claim, found = claim_of(post), nil
  if record then
    found = call('GET', claim)
    if not found then remember(post) end
  else
    found = call('SET', claim, token, 'NX', 'GET', 'PX', lifetime)
  end
  return found ~= token and found
end

local replies, contested = {}, nil
for i = FIRST_POST, #ARGV do
  local post, reply = ARGV[i], SEEN
  local bucket, generation = find_in_all(post)
  if not bucket then
    local found = acquire(post)
    reply = NEW
    if found then
      contested = contested or {}
      contested[i] = found
    end
  elseif refresh and ends_too_soon(generation) then
    move(post, bucket)
  end
  replies[i - FIRST_POST + 1] = reply
end
if not contested then
  if record then call('SET', recorded, cmsgpack.pack(replies), 'PX', lifetime) end
  return replies
end
