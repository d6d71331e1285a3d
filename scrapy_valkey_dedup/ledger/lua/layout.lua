-- The layout of one partition. scripts.py puts this in front of every script.
--
-- KEYS[1] = vd1:{namespace:pp} names the partition. All keys below derive from it, so they share its
-- hash tag and its slot:
--   KEYS[1]                     string: the list of the partition's generations, the one that ends last
--                               first: 13 digits say when it ends, one how many levels it has
--   KEYS[1]:<end>:<path>        set of 64-bit integers: a bucket of the generation that ends then
--   KEYS[1]:c:<post>            string: a claim; its value is the token that holds it, followed by
--                               tokens that were released and whose question may still arrive
--   KEYS[1]:r:<digest>          string: the reply to a question that recorded its posts at once
-- A moment is in milliseconds of the server's clock; 0 is never. A post is its path, two hexadecimal
-- digits for the first level and an octal one for each below it, followed by its member, a 64-bit
-- integer as decimal text: Lua's own numbers could not hold it.
--
-- Each script starts with what most calls do, and returns. Functions for the rest are defined after that, so
-- that only the calls that need them pay for them.
local base, call, sub = KEYS[1], redis.call, string.sub
local END, ENTRY = 13, 14
local LEVELS = 8
local MEMBER = LEVELS + 2

-- One below the 512 at which a set of integers stops being an intset: 8 bytes of header and 511
-- integers fill jemalloc's 4096-byte class to the last byte, one more would take 5120.
local CAPACITY = 511
