
-- Read-only: which posts are remembered?
--
-- ARGV: the posts.
-- Reply, one for each post: 1 remembered, 0 not.
local replies = {}
for i = 1, #ARGV do replies[i] = find(ARGV[i]) and 1 or 0 end
return replies
