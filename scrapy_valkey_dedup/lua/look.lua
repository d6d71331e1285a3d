-- Looks, changes nothing: which posts are remembered?
--
-- ARGV: two for each post: path, member.
-- Reply, one for each post: 1 remembered, 0 not.
local live = generations(milliseconds())
local replies = {}
for i = 1, #ARGV, 2 do
  replies[#replies + 1] = 0
  for _, generation in ipairs(live) do
    if find(generation, ARGV[i], ARGV[i + 1]) then
      replies[#replies] = 1
      break
    end
  end
end
return replies
