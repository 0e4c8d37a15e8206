-- Runs each script against a fake Pktgen and looks at what it reports. From the root: lua5.4 perf/pktgen/test/run.lua
package.path = "perf/pktgen/?.lua;perf/pktgen/test/?.lua"
local fake, search = require "fake", require "search"

local function close(a, b, within, what)
    assert(math.abs(a - b) <= within, string.format("%s: %s, expected %s", what, a, b))
end

-- The search, against a device that forwards up to a limit.
for _, limit in ipairs({ 0.3, 17, 50, 80.77, 99.95 }) do
    local trials = 0
    local found = search.throughput(function(rate)
        trials = trials + 1
        return 1000, rate <= limit and 1000 or 999
    end, 100, 0.1)
    assert(found <= limit, "a rate with loss was reported: " .. found)
    close(found, limit, 0.1, "throughput")
    assert(trials <= 12, trials .. " trials")
end
local once = 0
assert(search.throughput(function() once = once + 1; return 10, 10 end, 100, 0.1) == 100 and once == 1)
assert(search.throughput(function() return 10, 0 end, 100, 0.1) < 0.1, "a device that forwards nothing")
assert(not pcall(search.throughput, function() return 0, 0 end, 100, 0.1), "nothing sent is no success")
close(search.line_pps(10000, 64), 14880952, 1, "64-byte frames on 10 Gbit/s")
close(search.highest(64, 20), 80.77, 0.01, "what can come back with IPIP")
assert(search.address("198.19.0.250", 10) == "198.19.1.4" and search.address("198.19.255.255", 1) == "198.20.0.0")
local setup = require "setup"
for _, flows in ipairs(setup.flows) do
    assert(search.common_divisor(flows.addresses, flows.ports) == 1, flows.name)
end

-- Pktgen's version, as the fake one has it.
local old = false

-- Runs a script with some settings; returns what it reported, what was sent, and the last ranges.
local function run(script, mbit, capacity, change)
    for _, name in ipairs({ "bench", "setup" }) do
        package.loaded[name] = nil
    end
    local setup = require "setup"
    setup.results = os.tmpname()
    for key, value in pairs(change or {}) do
        setup[key] = value
    end
    local log, ranges
    pktgen, log, ranges = fake.new(mbit, capacity, old)
    local real = print
    print = function() end
    local done, problem = pcall(dofile, "perf/pktgen/" .. script)
    print = real
    local file = io.open(setup.results)
    local text = file and file:read("a") or ""
    os.remove(setup.results)
    return done, problem, text, log, ranges()
end

local function good(...)
    local done, problem, text, log, ranges = run(...)
    assert(done, problem)
    return text, log, ranges
end

local text, log, ranges = good("rfc2544.lua", 10000, 5e6)
local rows = 0
for _, frame, rate, pps, limit in text:gmatch("\n(%w+) +(%d+) +([%d.]+)%% +(%d+) +(%d+)") do
    rows = rows + 1
    close(tonumber(pps), math.min(5e6, tonumber(limit)), 20000, frame .. "-byte frames")
end
assert(rows == 28, rows .. " rows for 4 numbers of flows and 7 frame sizes:\n" .. text)
assert(ranges.ip_proto == "udp" and ranges.dst_ip.min == "198.18.9.1" and ranges.src_ip.max == "198.19.39.16")
for _, trial in ipairs(log) do
    assert(trial.rate <= search.highest(trial.size, 20) + 1e-9, "more was sent than can come back")
end

text = good("line_rate.lua", 10000, 5e6)
close(tonumber(text:match("\n10M +%d+ +(%d+)")), 5e6, 1, "received at the line's rate")
close(tonumber(text:match("\n1k +(%d+)")), 14880952 * 0.80769, 100, "sent at the line's rate")

old = true
text = good("line_rate.lua", 10000, 5e6)
close(tonumber(text:match("\n10M +%d+ +(%d+)")), 5e6, 1, "received at the line's rate, with Pktgen 23.03")
old = false

text, log = good("connections.lua", 10000, 5e6)
close(tonumber(text:match("loss: (%d+)")), 4464285, 100, "the last step below the limit")
assert(log[#log].flags == "syn" and log[#log].rate == 35, "the ramp ends at the first loss")

text = good("latency.lua", 10000, 5e6, { overhead = 0 })
local median, most = text:match("\n +64 +10%% +([%d.]+) +[%d.]+ +[%d.]+ +([%d.]+)")
close(tonumber(median), 5, 0.02, "median of 10 to 10000 ns")
close(tonumber(most), 10, 0.02, "most")
for _, frame in ipairs({ 64, 512, 1518 }) do
    for _, share in ipairs({ 10, 50, 90 }) do
        os.remove(string.format("pktgen-latency-%d-%d.txt", frame, share))
    end
end
local done, problem = run("latency.lua", 10000, 5e6)
assert(not done and problem:find("l2", 1, true), "with an outer header there are no time stamps to be found")

done, problem = run("rfc2544.lua", 0, 5e6)
assert(not done and problem:find("no link", 1, true), "without a link nothing is measured")
print("all Pktgen scripts work on the fake")
