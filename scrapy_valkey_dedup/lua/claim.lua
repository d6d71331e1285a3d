-- Asks for posts: which may I store? Remembered ones are answered as seen, the others are claimed.
--
-- ARGV: run; retention, step (ms; retention 0 = for ever) and lifetime (ms) of a claim, or of a
--       recorded reply; what to do with a remembered one: "refresh", "keep", or "ignore" that it
--       is remembered; "" to claim, or to record the name of the question,
--       the same when it is put again; the runs known to be dead, with a space before and after
--       each; the posts.
-- Reply, one for each post: 0 new, 1 seen, 2 new and taken over from a dead run, or the name of the
--       run that holds it.
local run, retention, step, lifetime = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local refresh, ignore = ARGV[5] == 'refresh', ARGV[5] == 'ignore'
local question, dead = ARGV[6], ARGV[7]
local FIRST_POST = 8
local NEW, SEEN, TAKEN_OVER = 0, 1, 2

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
  if ignore then return nil end
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

-- To record: the post counts as stored at once; only a claim of somebody else stands in the way.
local function acquire(post)
  local claim, holder = claim_of(post), nil
  if record then
    holder = redis.call('GET', claim)
  else
    holder = redis.call('SET', claim, run, 'NX', 'GET', 'PX', lifetime)
  end
  local taken_over = holder and holder ~= run and dead:find(' ' .. holder .. ' ', 1, true)
  if holder and holder ~= run and not taken_over then return holder end
  if record then
    redis.call('DEL', claim)
    remember(post)
  elseif holder then
    redis.call('SET', claim, run, 'PX', lifetime)
  end
  return taken_over and TAKEN_OVER or NEW
end

local replies = {}
for i = FIRST_POST, #ARGV do
  local post = ARGV[i]
  local bucket, generation = find_in_all(post)
  if bucket then
    if refresh and generation.ends < keep_until then move(post, bucket) end
    replies[#replies + 1] = SEEN
  else
    replies[#replies + 1] = acquire(post)
  end
end
if record then redis.call('SET', recorded, cmsgpack.pack(replies), 'PX', lifetime) end
return replies
