-- RFC 2544 26.2: latency at 10, 50 and 90 % of the throughput of 64-, 512- and 1518-byte frames.
--
-- Pktgen finds its time stamps at a fixed place in a frame, so that this one needs `encapsulation = "l2"` and overhead = 0. It sends
-- 100 frames with a time stamp a second between the others, whatever those are: of 128 bytes (since 26.02 of 64), from one client,
-- and since 23.06 to UDP port 1028, which has to be distributed too.
package.path = package.path .. ";perf/pktgen/?.lua"
local bench = require "bench"
local setup = bench.setup
assert(setup.overhead == 0, "latency needs encapsulation = \"l2\" and overhead = 0 in setup.lua")

-- Pktgen keeps 50108 samples at most; asked for more, it takes none, and says so on its screen only.
local SAMPLES, SAMPLES_A_SECOND = 50000, 10000
-- Frames with a time stamp do not follow the ranges: they are a flow of their own.
local CLIENT_PORT = 1023

-- Microseconds below which a share of the samples in the file are.
local function percentiles(path, shares)
    local us = {}
    for line in assert(io.open(path)):lines() do
        -- One sample a line, in nanoseconds, after a heading.
        local ns = line:match("^%s*(%d+%.?%d*)%s*$")
        if ns then
            us[#us + 1] = tonumber(ns) / 1000
        end
    end
    assert(#us > 0, path .. " has no samples: do the frames come back unchanged?")
    table.sort(us)
    local found = {}
    for i, share in ipairs(shares) do
        found[i] = us[math.max(1, math.ceil(#us * share))]
    end
    return found
end

-- The receiver looks for time stamps only if it is told that there are some.
local function each_port(act)
    act(setup.send)
    if setup.receive ~= setup.send then
        act(setup.receive)
    end
end

local flows = setup.flows[1]
bench.report("latency in microseconds, %s flows, %d s a row", flows.name, setup.trial_s)
bench.report("%6s %9s %9s %9s %9s %9s", "frame", "of thru", "median", "99 %", "99.9 %", "most")
for _, frame in ipairs({ 64, 512, 1518 }) do
    bench.prepare("udp", flows.addresses, flows.ports)
    bench.establish(flows.addresses * flows.ports)
    local throughput = bench.throughput(frame)
    assert(throughput > 0, "no rate is without loss: latency below it can't be measured (RFC 2544 26.2)")
    for _, share in ipairs({ 10, 50, 90 }) do
        local path = string.format("pktgen-latency-%d-%d.txt", frame, share)
        pktgen.latsampler_params(setup.receive, "simple", SAMPLES, SAMPLES_A_SECOND, path)
        bench.single("udp", CLIENT_PORT)
        each_port(function(port) pktgen.latency(port, "enable") end)
        pktgen.latsampler(setup.receive, "on")
        bench.trial(frame, throughput * share / 100, setup.trial_s)
        pktgen.latsampler(setup.receive, "off")
        each_port(function(port) pktgen.latency(port, "disable") end)
        local p = percentiles(path, { 0.5, 0.99, 0.999, 1 })
        bench.report("%6d %8d%% %9.2f %9.2f %9.2f %9.2f", frame, share, p[1], p[2], p[3], p[4])
    end
end
