-- Pktgen's Lua functions, played by a table: it keeps what was set, checks what it is given, lets time pass without waiting, and
-- loses what a device under test of some capacity would lose.
local fake = {}

-- So many samples Pktgen keeps.
local MOST_SAMPLES = 50108

-- A link of `mbit`, through a device that forwards at most `capacity` packets a second. `old`: as Pktgen 22.07 to 23.03 has it.
function fake.new(mbit, capacity, old)
    local now = { rate = 0, size = 0, sending = false, sent = 0, received = 0, samples = nil, sampling = false }
    local ranges, log, single = {}, {}, {}
    local function is_port(port)
        assert(tostring(port):match("^%d+$"), "invalid portlist: " .. tostring(port))
    end
    local function range(name, kind)
        return function(port, what, value)
            is_port(port)
            assert(what == "start" or what == "inc" or what == "min" or what == "max", name .. ": " .. tostring(what))
            assert(type(value) == kind, name .. " takes a " .. kind)
            ranges[name] = ranges[name] or {}
            ranges[name][what] = value
        end
    end
    local pktgen = {
        range = {
            src_ip = range("src_ip", "string"),
            dst_ip = range("dst_ip", "string"),
            dst_mac = range("dst_mac", "string"),
            src_port = range("src_port", "number"),
            dst_port = range("dst_port", "number"),
            pkt_size = range("pkt_size", "number"),
            ip_proto = function(port, protocol)
                is_port(port)
                assert(protocol == "udp" or protocol == "tcp", "range.ip_proto: " .. tostring(protocol))
                ranges.ip_proto = protocol
            end,
        },
        set = function(port, what, value)
            is_port(port)
            if what == "rate" then
                assert(value > 0 and value <= 100, "a rate of " .. tostring(value))
                now.rate = value
            elseif what == "sport" or what == "dport" then
                single[what] = value
            else
                assert(what == "count" and value == 0, "set " .. tostring(what))
            end
        end,
        set_mac = function(port, what, mac)
            is_port(port)
            assert(what == "dst" and mac:match("^%x%x:%x%x:%x%x:%x%x:%x%x:%x%x$"), "set_mac")
        end,
        set_proto = function(port, protocol)
            is_port(port)
            assert(protocol == "udp" or protocol == "tcp", "set_proto")
            single.protocol = protocol
        end,
        set_ipaddr = function(port, what, address)
            is_port(port)
            local pattern = what == "src" and "^%d+%.%d+%.%d+%.%d+/%d+$" or "^%d+%.%d+%.%d+%.%d+$"
            assert((what == "src" or what == "dst") and address:match(pattern), "set_ipaddr " .. address)
            single[what] = address
        end,
        set_range = function(port, state)
            is_port(port)
            assert(state == "on" or state == "off", "set_range")
            ranges.on = state == "on"
        end,
        start = function(port)
            is_port(port)
            assert(ranges.on, "the range has to be on")
            now.sending = true
        end,
        stop = function(port)
            is_port(port)
            now.sending = false
        end,
        reset = function(port)
            is_port(port)
            ranges, single = {}, {}
        end,
        clr = function()
            now.sent, now.received = 0, 0
        end,
        delay = function(ms)
            assert(math.type(ms) == "integer", "delay takes whole milliseconds")
            if not now.sending then
                return
            end
            local size = ranges.pkt_size.start
            local offered = mbit * 1e6 / ((size + 20) * 8) * now.rate / 100
            local sent = math.floor(offered * ms / 1000)
            now.sent = now.sent + sent
            now.received = now.received + math.min(sent, math.floor(capacity * ms / 1000))
            log[#log + 1] = { size = size, rate = now.rate, sent = sent, ms = ms, flags = ranges.flags }
            -- Only frames to where the ranges go come back.
            local returns = single.dst == ranges.dst_ip.start and single.dport == ranges.dst_port.start
            if now.sampling and now.stamping and returns then
                local file = assert(io.open(now.samples, "w"))
                file:write("Latency\n")
                for n = 1, 1000 do
                    file:write(n * 10, "\n")
                end
                file:close()
            end
        end,
        load = function(path)
            local text = assert(io.open(path)):read("a")
            ranges.flags = assert(text:match("^range all tcp flags (%a+)\n$"), path .. ": " .. text)
        end,
        linkState = function(port)
            return { [tonumber(port)] = "<UP-" .. mbit .. "-FD>", n = 1 }
        end,
        portStats = function(port, kind)
            assert((kind ~= nil) == (old == true), "portStats, wrong number of arguments")
            assert(kind == nil or kind == "port", "portStats: " .. tostring(kind))
            local stats = { opackets = now.sent, ipackets = now.received }
            return { [tonumber(port)] = old and stats or { curr = stats }, n = 1 }
        end,
        latency = function(port, state)
            is_port(port)
            assert(state == "enable" or state == "disable", "latency")
            now.stamping = state == "enable"
        end,
        latsampler_params = function(port, kind, samples, rate, path)
            is_port(port)
            assert(kind == "simple" and samples > 0 and rate > 0, "latsampler_params")
            assert(io.open(path, "w")):close()
            now.samples = samples <= MOST_SAMPLES and path or nil
        end,
        latsampler = function(port, state)
            is_port(port)
            assert(state == "on" or state == "off", "latsampler")
            now.sampling = state == "on" and now.samples ~= nil
        end,
    }
    local function unknown(_, name)
        error("Pktgen has no function " .. tostring(name), 2)
    end
    setmetatable(pktgen, { __index = unknown })
    setmetatable(pktgen.range, { __index = unknown })
    return pktgen, log, function() return ranges end
end

return fake
