
-- The rest of release.lua, for claims whose value is not just the token, or whose question may still arrive.
-- A separate part, so that a call without such claims does not pay for these functions.

local function give_back(claim, found, token)
  local holder = found:sub(1, TOKEN)
  local is_ours = holder:sub(1, RUN) == run and not is_older(token, holder)
  local back, others = given_back(found, run)
  local is_new = in_doubt and (not back or is_older(back, token))
  if not is_ours and not is_new then return false end
  if is_ours then holder = NOBODY end
  if is_new then back = token end
  local left = holder .. (back or '') .. others
  if left == NOBODY then
    call('DEL', claim)
  elseif holder == NOBODY then
    call('SET', claim, left, 'PX', turned_away)
  else
    call('SET', claim, left, 'KEEPTTL')
  end
  return is_ours
end

for i = FIRST_POST, #ARGV, 2 do
  if contested[i] then
    -- A post may be in a call twice. So its claim is read again: the first time may have changed it.
    local claim = base .. ':c:' .. ARGV[i]
    local found = tokens_in(call('GET', claim) or NOBODY)
    if give_back(claim, found, ARGV[i + 1]) then released = released + 1 end
  end
end
return released
