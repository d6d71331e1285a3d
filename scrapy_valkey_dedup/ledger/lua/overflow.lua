
-- The rest of confirm.lua, where a generation begins, or another is to be written than the longest, or the
-- buckets of the first level are full.
local all = generations(list)
local generation = generation_to_write(all, list, retention, step)
for i = 1, #left do add(all, generation, left[i]) end
return #ARGV - FIRST_POST + 1
