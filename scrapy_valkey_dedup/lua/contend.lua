-- The rest of claim.lua, for posts on which there is a claim, or something that was given back. Behind it
-- and apart, so that a call without them does not pay for these functions.
local run = token:sub(1, RUN)

-- NEW or TAKEN_OVER if the post may be had all the same.
local function contend(found)
  local holder = found:sub(1, TOKEN)
  local is_ours = holder:sub(1, RUN) == run
  if not record then
    local back = given_back(found, run)
    if back and not is_older(back, token) then return holder end
    if is_ours and is_older(token, holder) then return holder end
  end
  if is_ours or holder == NOBODY then return NEW end
  local dead = ARGV[6]
  for at = 1, #dead, TOKEN do
    if dead:sub(at, at + TOKEN - 1) == holder then return TAKEN_OVER end
  end
  return holder
end

local function take(post, found)
  if record then
    call('DEL', claim_of(post))
    remember(post)
  else
    call('SET', claim_of(post), token .. found:sub(TOKEN + 1), 'PX', lifetime)
  end
end

local taken = {}
for i = FIRST_POST, #ARGV do
  local found = contested[i] and tokens_in(contested[i])
  if found then
    local post, reply = ARGV[i], contend(found)
    if taken[post] then
      reply = record and SEEN or NEW -- it stands twice in this question
    elseif reply == NEW or reply == TAKEN_OVER then
      take(post, found)
      taken[post] = true
    end
    replies[i - FIRST_POST + 1] = reply
  end
end
if record then call('SET', recorded, cmsgpack.pack(replies), 'PX', lifetime) end
return replies
