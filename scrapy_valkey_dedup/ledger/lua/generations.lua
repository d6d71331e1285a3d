
local function lasts_longer(a, b) return a.ends > b.ends end

-- All generations on the list, the one that ends last first. Some may have ended.
local function generations(list)
  local all = {}
  for at = 1, #list, ENTRY do
    local text = sub(list, at, at + END - 1)
    local ends, levels = tonumber(text), tonumber(sub(list, at + END, at + END))
    all[#all + 1] = {text = text, ends = ends == 0 and math.huge or ends, levels = levels}
  end
  return all
end

-- The list expires with the generation that ends last.
local function write_list(all)
  local entries = {}
  for i, generation in ipairs(all) do entries[i] = generation.text .. generation.levels end
  local list = table.concat(entries)
  if all[1].ends == math.huge then
    call('SET', base, list)
  else
    call('SET', base, list, 'PXAT', all[1].ends)
  end
end

-- The generation that keeps a post for the retention and not much longer: its end lies between
-- now + retention and now + retention + step. If there is no such generation, it begins here. Generations
-- that have ended are taken off the list.
local function generation_to_write(all, list, retention, step)
  local now, listed, written = 0, #all, nil
  if retention > 0 or listed > 1 then now = milliseconds(list) end
  while #all > 0 and all[#all].ends <= now do table.remove(all) end
  if retention == 0 then retention, step = math.huge, 0 end
  for _, generation in ipairs(all) do
    if generation.ends >= now + retention and generation.ends <= now + retention + step then
      written = generation
    end
  end
  if written and #all == listed then return written end
  if not written then
    local ends = now + retention + step
    local text = string.format('%013.0f', ends == math.huge and 0 or ends)
    written = {text = text, ends = ends, levels = 1}
    all[#all + 1] = written
    table.sort(all, lasts_longer)
  end
  write_list(all)
  return written
end

-- All buckets of a generation expire at the same moment, so a level never disappears above one that still
-- holds posts (unless the server evicts it). Only the last level, which no real ledger reaches, grows beyond
-- the capacity.
local function add(all, generation, post)
  local prefix, member = base .. ':' .. generation.text .. ':', sub(post, MEMBER)
  for level = 1, LEVELS do
    local bucket = prefix .. sub(post, 1, level + 1)
    local size = call('SCARD', bucket)
    local has_room = size < CAPACITY or level == LEVELS
    if has_room or call('SISMEMBER', bucket, member) == 1 then
      if has_room then call('SADD', bucket, member) end
      if size == 0 and generation.ends < math.huge then
        call('PEXPIREAT', bucket, generation.ends)
      end
      -- The level may have existed before, and the list been evicted.
      if level > generation.levels then
        generation.levels = level
        write_list(all)
      end
      return
    end
  end
end
