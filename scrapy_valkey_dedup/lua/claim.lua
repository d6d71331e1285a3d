-- Asks for posts: what may I store? Remembered posts are answered as seen, the others are claimed.
--
-- ARGV: run, retention and step (ms; retention 0 = for ever), lifetime of a claim (ms),
--       "refresh" or "keep", "claim" or "record"; then three for each post: path, member, and the
--       run that is known to be dead, or "".
-- Reply, one for each post: 0 new, 1 seen, 2 new and taken over from the dead run, or the name of
--       the run that holds it.
local run, retention, step, lifetime = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local refresh, record = ARGV[5] == 'refresh', ARGV[6] == 'record'
local NEW, SEEN, TAKEN_OVER = 0, 1, 2
local now = milliseconds()
local live, over = generations(now)
local keep_until = retention == 0 and math.huge or now + retention

local function remembered(path, member)
  for _, generation in ipairs(live) do
    if find(generation, path, member) then return generation end
  end
  return nil
end

-- "record": the post counts as stored at once; only a claim of somebody else stands in the way.
local function acquire(path, member, dead)
  local key = claim_key(path, member)
  local holder
  if record then
    holder = redis.call('GET', key)
  else
    holder = redis.call('SET', key, run, 'NX', 'GET', 'PX', lifetime)
  end
  if holder and holder ~= run and holder ~= dead then return holder end
  if record then
    if holder then redis.call('DEL', key) end
    add(generation_to_write(live, over, now, retention, step), path, member)
  elseif holder then
    redis.call('SET', key, run, 'PX', lifetime)
  end
  if holder and holder == dead then return TAKEN_OVER end
  return NEW
end

local replies = {}
for i = 7, #ARGV, 3 do
  local path, member = ARGV[i], ARGV[i + 1]
  local generation = remembered(path, member)
  if generation then
    if refresh and generation.ends < keep_until then
      add(generation_to_write(live, over, now, retention, step), path, member)
    end
    replies[#replies + 1] = SEEN
  else
    replies[#replies + 1] = acquire(path, member, ARGV[i + 2])
  end
end
return replies
