-- Asks for posts: which may I store? Remembered ones are answered as seen, the others are claimed.
--
-- ARGV: run; retention, step (ms; retention 0 = for ever) and lifetime (ms) of a claim, or of a
--       recorded reply; "refresh" or "keep"; "" to claim, or to record the name of the question,
--       the same when it is put again; the tokens that were seen dead, one behind the other; the
--       posts, each with its number.
-- Reply, one for each post: 0 new, 1 seen, 2 new and taken over from a dead run, or the token that
--       holds it. The rules C1 to C7 and Q1 to Q3 are in docs/ledger.md.
local run, retention, step, lifetime = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local refresh, question, dead = ARGV[5] == 'refresh', ARGV[6], {}
local FIRST_POST = 8
local NEW, SEEN, TAKEN_OVER = 0, 1, 2
for at = 1, #ARGV[7], TOKEN do dead[ARGV[7]:sub(at, at + TOKEN - 1)] = true end

-- What is recorded is seen from then on. So if the reply was lost and the question is put again, the
-- reply must be the same: else nobody would store these posts.
local record, recorded = question ~= '', nil
if record then
  recorded = base .. ':r:' .. redis.sha1hex(table.concat(ARGV, ' '))
  local replies = redis.call('GET', recorded)
  if replies then return cmsgpack.unpack(replies) end
end

local now = milliseconds()
local live, over = generations(now)
local keep_until = retention == 0 and math.huge or now + retention

local function remember(post)
  add(generation_to_write(live, over, now, retention, step), post)
end

local function find_in_all(post)
  for _, generation in ipairs(live) do
    local bucket = find(generation, post)
    if bucket then return bucket, generation end
  end
  return nil
end

-- Moves a duplicate to the generation that is written now, which lasts longer: else what is met again
-- and again would stand in every generation. Only a full bucket keeps its copy, to stay full.
local function move(post, bucket)
  remember(post)
  if redis.call('SCARD', bucket) < CAPACITY then redis.call('SREM', bucket, member_of(post)) end
end

-- Who must be left alone: neither nobody, nor this run itself, nor the dead.
local function is_anothers(holder)
  return holder ~= NOBODY and run_of(holder) ~= run and not dead[holder]
end

local function taken_from(holder)
  return dead[holder] and run_of(holder) ~= run and TAKEN_OVER or NEW
end

-- There is a claim, or something that was given back.
local function contend(claim, found, token)
  local holder = holder_of(found)
  local back = given_back(found, run)
  if back and not is_older(back, token) then return holder end
  if is_anothers(holder) then return holder end
  if run_of(holder) == run and is_older(token, holder) then return holder end
  redis.call('SET', claim, token .. found:sub(TOKEN + 1), 'PX', lifetime)
  return taken_from(holder)
end

local function acquire(post, token)
  local claim = claim_of(post)
  local found = redis.call('SET', claim, token, 'NX', 'GET', 'PX', lifetime)
  if not found or found == token then return NEW end
  return contend(claim, found, token)
end

-- The post counts as stored at once; only a claim of somebody else stands in the way.
local function acquire_and_remember(post)
  local claim = claim_of(post)
  local found = redis.call('GET', claim)
  local holder = found and holder_of(found) or NOBODY
  if is_anothers(holder) then return holder end
  redis.call('DEL', claim)
  remember(post)
  return taken_from(holder)
end

local replies = {}
for i = FIRST_POST, #ARGV do
  local post, token = post_and_token(run, ARGV[i])
  local bucket, generation = find_in_all(post)
  if bucket then
    if refresh and generation.ends < keep_until then move(post, bucket) end
    replies[#replies + 1] = SEEN
  elseif record then
    replies[#replies + 1] = acquire_and_remember(post)
  else
    replies[#replies + 1] = acquire(post, token)
  end
end
if record then redis.call('SET', recorded, cmsgpack.pack(replies), 'PX', lifetime) end
return replies
