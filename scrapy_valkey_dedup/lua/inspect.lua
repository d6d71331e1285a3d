-- Looks, changes nothing: until when is each post remembered, and what stands in its claim?
--
-- ARGV: the posts.
-- Reply, one pair for each post: the end of the generation that holds it longest ("" if none does), and
-- the claim ("" if there is none).
local all = generations()
local replies = {}
for i = 1, #ARGV do
  local ends = ''
  for _, generation in ipairs(all) do
    if find(generation, ARGV[i]) then
      ends = generation.text
      break
    end
  end
  replies[i] = {ends, call('GET', claim_of(ARGV[i])) or ''}
end
return replies
