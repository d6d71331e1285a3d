
-- The rest of confirm.lua, for when a generation begins or gets one more level, or another one than the last to
-- end is written to.
local all = generations(list)
local generation = generation_to_write(all, list, retention, step)
for i = 1, #left do add(all, generation, left[i]) end
return #ARGV - FIRST_POST + 1
