
-- The server's clock, by which its keys end. No client says what time it is: one whose clock is years
-- ahead would make all forget. And TIME is refused in scripts by ElastiCache Serverless. But a key that
-- ends tells when it does, and how long that is from now: the list does so, with the generation that is
-- its first.
local moment
local function milliseconds(list)
  if moment then return moment end
  local ends = tonumber(sub(list, 1, END)) or 0
  local lasts = ends > 0 and call('PTTL', base) or -1
  if lasts < 0 then -- there is no list yet, or it never ends
    local clock = base .. ':t'
    call('SET', clock, '', 'PX', 1000)
    ends, lasts = call('PEXPIRETIME', clock), 1000
    call('DEL', clock)
  end
  moment = ends - lasts
  return moment
end
