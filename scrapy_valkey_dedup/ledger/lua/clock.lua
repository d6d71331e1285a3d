
-- The time by the server's clock, which is the clock that expires keys. It does not come from a client: one
-- whose clock is years ahead would make the ledger forget everything. And ElastiCache Serverless refuses
-- TIME in scripts. But a key with an expiry says when it expires and how long that is from now: the list is
-- such a key, and expires with its first generation.
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
