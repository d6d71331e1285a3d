
-- A post that is seen again, in a generation that ends too soon, moves to the generation that is written
-- now. If it were copied, a post that is seen again and again would be in every generation. Only a full
-- bucket keeps its copy, because it must stay full.
local all, written

local function remember(post)
  all = all or generations(list)
  written = written or generation_to_write(all, list, tonumber(ARGV[1]), tonumber(ARGV[2]))
  add(all, written, post)
end

local function move(post, bucket)
  remember(post)
  if call('SCARD', bucket) < CAPACITY then call('SREM', bucket, sub(post, MEMBER)) end
end

for i, bucket in pairs(old or {}) do move(ARGV[i], bucket) end
if not contested and not record then return replies end
