
-- The rest of claim.lua, for posts whose claim key exists: they are claimed, or were released in doubt.
local run, dead = token:sub(1, RUN), ARGV[6]

-- NEW or TAKEN_OVER if the token gets the post nevertheless; otherwise the token that holds it.
local function contend(found)
  local holder = found:sub(1, TOKEN)
  local is_ours = holder:sub(1, RUN) == run
  if not record then
    local back = given_back(found, run)
    if back and not is_older(back, token) then return holder end
    if is_ours and is_older(token, holder) then return holder end
  end
  if is_ours or holder == NOBODY then return NEW end
  for at = 1, #dead, TOKEN do
    if dead:sub(at, at + TOKEN - 1) == holder then return TAKEN_OVER end
  end
  return holder
end

if not record then
  local taken = {}
  for i = FIRST_POST, #ARGV do
    local found = contested[i] and tokens_in(contested[i])
    if found then
      local post, reply = ARGV[i], contend(found)
      if taken[post] then
        reply = NEW -- it stands twice in this question
      elseif reply == NEW or reply == TAKEN_OVER then
        call('SET', base .. ':c:' .. post, token .. found:sub(TOKEN + 1), 'PX', lifetime)
        taken[post] = true
      end
      replies[i - FIRST_POST + 1] = reply
    end
  end
  return replies
end
