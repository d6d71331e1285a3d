-- Looks, changes nothing: which posts are remembered?
--
-- ARGV: the posts.
-- Reply, one for each post: 1 remembered, 0 not.
local all = generations()
local replies = {}
for i = 1, #ARGV do
  replies[i] = 0
  for _, generation in ipairs(all) do
    if find(generation, ARGV[i]) then
      replies[i] = 1
      break
    end
  end
end
return replies
