-- RFC 2544 26.1: the highest rate without loss, for each frame size and number of flows.
package.path = package.path .. ";perf/pktgen/?.lua"
local bench, search = require "bench", require "search"
local setup = bench.setup

local mbit = bench.link()
bench.report("RFC 2544 throughput, %d Mbit/s, trials of %d s", mbit, setup.trial_s)
bench.report("%-6s %6s %9s %14s %14s", "flows", "frame", "of line", "frames/s", "line's limit")
for _, flows in ipairs(setup.flows) do
    bench.prepare("udp", flows.addresses, flows.ports)
    bench.establish(flows.addresses * flows.ports)
    for _, frame in ipairs({ 64, 128, 256, 512, 1024, 1280, 1518 }) do
        local rate, pps = bench.throughput(frame)
        local limit = search.line_pps(mbit, frame) * search.highest(frame, setup.overhead) / 100
        bench.report("%-6s %6d %8.2f%% %14.0f %14.0f", flows.name, frame, rate, pps, limit)
    end
end
