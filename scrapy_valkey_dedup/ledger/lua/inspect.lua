
-- Looks, changes nothing: until when is each post remembered, and what stands in its claim?
--
-- ARGV: the posts.
-- Reply, one pair for each post: the end of the generation that holds it longest ("" if none does), and
-- the claim ("" if there is none).
local replies = {}
for i = 1, #ARGV do
  local bucket, at = find(ARGV[i])
  replies[i] = {bucket and sub(list, at, at + END - 1) or '', call('GET', base .. ':c:' .. ARGV[i]) or ''}
end
return replies
