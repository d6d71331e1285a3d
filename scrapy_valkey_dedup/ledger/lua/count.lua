-- Read-only: about how many posts does the partition remember? Exactly, as long as no bucket of a generation is
-- full. Below a full bucket one branch stands for all eight.
--
-- Reply: their number. One that is in two generations counts twice.
local found = 0
for at = 1, #list, ENTRY do
  local prefix = base .. ':' .. sub(list, at, at + END - 1) .. ':'
  for number = 0, 255 do
    local path, weight = string.format('%02x', number), 1
    for _ = 1, sub(list, at + END, at + END) do
      local size = call('SCARD', prefix .. path)
      found = found + weight * size
      if size < CAPACITY then break end
      path, weight = path .. number % 8, weight * 8
    end
  end
end
return found
