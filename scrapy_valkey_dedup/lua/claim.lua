-- Asks for posts: which may I store? Remembered ones are answered as seen, the others are claimed.
--
-- ARGV: run; retention, step and lifetime of a claim (ms; retention 0 = for ever); "refresh" or
--       "keep"; "claim" or "record"; the runs known to be dead, with a space after each; the posts.
-- Reply, one for each post: 0 new, 1 seen, 2 new and taken over from a dead run, or the name of the
--       run that holds it.
local run, retention, step, lifetime = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local refresh, record, dead = ARGV[5] == 'refresh', ARGV[6] == 'record', ARGV[7]
local FIRST_POST = 8
local NEW, SEEN, TAKEN_OVER = 0, 1, 2
local now = milliseconds()
local live, over = generations(now)
local keep_until = retention == 0 and math.huge or now + retention

local function remember(post)
  add(generation_to_write(live, over, now, retention, step), post)
end

local function generation_of(post)
  for _, generation in ipairs(live) do
    if find(generation, post) then return generation end
  end
  return nil
end

-- "record": the post counts as stored at once; only a claim of somebody else stands in the way.
local function acquire(post)
  local claim, holder = claim_of(post), nil
  if record then
    holder = redis.call('GET', claim)
  else
    holder = redis.call('SET', claim, run, 'NX', 'GET', 'PX', lifetime)
  end
  local taken_over = holder and holder ~= run and dead:find(holder .. ' ', 1, true)
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
  local generation = generation_of(post)
  if generation then
    if refresh and generation.ends < keep_until then remember(post) end
    replies[#replies + 1] = SEEN
  else
    replies[#replies + 1] = acquire(post)
  end
end
return replies
