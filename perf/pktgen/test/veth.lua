-- RFC 2544's throughput by the very code that drives Pktgen, with its functions played on a veth: send.py sends, and a command
-- counts what came to the target. For small rates: it shows that the search measures, not how fast anything is.
--
--     lua5.4 perf/pktgen/test/veth.lua INTERFACE ROUTER_MAC DVIPA PORT LINE_MBIT COUNT_COMMAND
package.path = "perf/pktgen/?.lua"
local interface, mac, dvipa, port, mbit, count = table.unpack(arg)
local setup, search = require "setup", require "search"
for key, value in pairs({
    router_mac = mac, dvipa = dvipa, udp_port = tonumber(port), first_client = "198.18.100.1", overhead = 0,
    trial_s = 1, search_s = 0.5, rest_s = 0.3, settle_s = 0, resolution = 2, results = "/dev/null",
}) do
    setup[key] = value
end

local ranges, rate, sending, sent, before = {}, 0, false, 0, 0
local function ask(command)
    local pipe = assert(io.popen(command))
    local number = tonumber(pipe:read("a"))
    pipe:close()
    return assert(number, command .. " printed no number")
end
local function ignore() end
local range = setmetatable({ ip_proto = ignore }, {
    __index = function(_, name)
        return function(_, what, value)
            ranges[name .. " " .. what] = value
        end
    end,
})
pktgen = {
    range = range, set_mac = ignore, set_range = ignore, reset = ignore,
    linkState = function() return { [0] = "<UP-" .. mbit .. "-FD>" } end,
    set = function(_, what, value) if what == "rate" then rate = value end end,
    clr = function() sent, before = 0, ask(count) end,
    start = function() sending = true end,
    stop = function() sending = false end,
    delay = function(ms)
        if not sending then
            os.execute("sleep " .. ms / 1000)
            return
        end
        local size = ranges["pkt_size start"]
        local pps = search.line_pps(tonumber(mbit), size) * rate / 100
        sent = ask(string.format("python3 perf/pktgen/test/send.py %s %s %s %s %s %d %d %d %f %f", interface, mac, dvipa,
            port, ranges["src_ip start"], 10, 11, size, pps, ms / 1000))
    end,
    portStats = function()
        return { [0] = { curr = { opackets = sent, ipackets = ask(count) - before } } }
    end,
}

local bench = require "bench"
bench.prepare("udp", 10, 11)
bench.establish(110)
for _, frame in ipairs({ 64, 512 }) do
    print(string.format("%d %.2f %.0f", frame, bench.throughput(frame)))
end
