-- Adds what a run has counted to the records of an hour and of a day. Nothing is decided by them.
--
-- Its totals are sent, not what is new in them, so to ask again adds nothing: what has been added of them is in a
-- mark of the run, for as long as a copy of the question may still come.
--
-- KEYS[1] = vd1:{namespace}:history. The keys below derive from it:
--   KEYS[1]:<run>       string: the mark, the totals of a run that have been added
--   KEYS[1]:<moment>    string: a record. Its first line is how many posts were remembered, "?" while a run
--                       counts them, or empty; each other line is a spider's name, a tab, and its numbers
-- ARGV: 1 run, 2 lifetime of its mark in milliseconds, 3 spider, 4 totals, 5 what the run knows to have been added
-- of them, 6 how many posts are remembered, or "", 7 spiders that a record has at most, then for each record its
-- moment and its lifetime in milliseconds.
-- Reply: 1 if the run is to count the posts that are remembered, else 0.
local OTHERS = '*'

-- The numbers in a text such as "1,20,300"; in Lua each is exact up to 14 digits. What is none counts as 0, so that a
-- record that somebody else has written to does not end the counting.
local function numbers(text)
  local found = {}
  for each in string.gmatch(text, '[^,]+') do
    local number = tonumber(each)
    found[#found + 1] = number and number >= 0 and number < 1e14 and number or 0
  end
  return found
end

-- A claim's SET is followed by a DEL some time; so is this one, as `scrapy dedup estimate` counts on that.
local function set(key, value, lifetime)
  call('DEL', key)
  call('SET', key, value, 'PX', lifetime)
end

local mark, totals, known = base .. ':' .. ARGV[1], numbers(ARGV[4]), numbers(ARGV[5])
local added, news, is_new = numbers(call('GET', mark) or ''), {}, false
for at = 1, #totals do
  local before = math.max(added[at] or 0, known[at] or 0)
  news[at] = totals[at] - before
  if news[at] > 0 then is_new = true else news[at], totals[at] = 0, before end
end
if is_new then set(mark, table.concat(totals, ','), ARGV[2]) end
local line = table.concat(news, ',')

-- The text of a record with the new numbers in the spider's line.
local function with_news(text, spider)
  if not is_new then return text end
  local start, stop = string.find(text, '\n' .. spider .. '\t', 1, true)
  if not start then
    local _, lines = string.gsub(text, '\n', '\n')
    if lines >= tonumber(ARGV[7]) and spider ~= OTHERS then return with_news(text, OTHERS) end
    return text .. '\n' .. spider .. '\t' .. line
  end
  local line_end = string.find(text, '\n', stop, true) or #text + 1
  local sums = numbers(sub(text, stop + 1, line_end - 1))
  for at = 1, #news do sums[at] = (sums[at] or 0) + news[at] end
  return sub(text, 1, stop) .. table.concat(sums, ',') .. sub(text, line_end)
end

local reply = 0
for at = 8, #ARGV, 2 do
  local key = base .. ':' .. ARGV[at]
  local text = call('GET', key) or ''
  local first = string.match(text, '^[^\n]*')
  local remembered = ARGV[6] ~= '' and ARGV[6] or first
  if at == 8 and remembered == '' then remembered, reply = '?', 1 end
  text = with_news(remembered .. sub(text, #first + 1), ARGV[3])
  set(key, text, ARGV[at + 1])
end
return reply
