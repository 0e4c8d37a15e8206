-- The search for the highest rate without loss, apart from whatever makes the packets.
local search = {}

-- The highest rate, in percent, at which `trial(rate)` loses nothing, to within `resolution`; 0 if there is none.
--
-- `trial` returns packets sent and received. A trial that sent nothing is an error: it would pass as one without loss.
-- The highest rate is tried first: where the line is the limit, one trial is enough.
function search.throughput(trial, highest, resolution)
    assert(highest > 0 and resolution > 0, "a search needs a highest rate and a resolution")
    local function passes(rate)
        local sent, received = trial(rate)
        assert(sent > 0, "nothing was sent at " .. rate .. " %: is the link up?")
        return received >= sent
    end
    if passes(highest) then
        return highest
    end
    local good, bad = 0, highest
    while bad - good > resolution do
        local rate = (good + bad) / 2
        if passes(rate) then
            good = rate
        else
            bad = rate
        end
    end
    return good
end

-- The largest number that divides both.
function search.common_divisor(a, b)
    while b ~= 0 do
        a, b = b, a % b
    end
    return a
end

-- Frames a second on a line of so many Mbit/s: preamble, start delimiter and gap are 20 bytes a frame.
function search.line_pps(mbit, frame)
    return mbit * 1e6 / ((frame + 20) * 8)
end

-- The highest rate in percent at which frames that come back longer still fit the same line.
function search.highest(frame, overhead)
    return 100 * (frame + 20) / (frame + overhead + 20)
end

-- `from`, so many addresses on.
function search.address(from, plus)
    local a, b, c, d = from:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
    assert(a, from .. " is no IPv4 address")
    local n = ((a * 256 + b) * 256 + c) * 256 + d + plus
    return string.format("%d.%d.%d.%d", n // 16777216 % 256, n // 65536 % 256, n // 256 % 256, n % 256)
end

return search
