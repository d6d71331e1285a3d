
-- Read-only: until when is each post remembered, and what is the value of its claim?
--
-- ARGV: the posts.
-- Reply, one pair for each post: the end of the generation that holds it longest ("" if it is not
-- remembered), and the value of its claim ("" if it has no claim).
local replies = {}
for i = 1, #ARGV do
  local bucket, at = find(ARGV[i])
  replies[i] = {bucket and sub(list, at, at + END - 1) or '', call('GET', base .. ':c:' .. ARGV[i]) or ''}
end
return replies
