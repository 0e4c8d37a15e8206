-- 64-byte frames at the line's rate (or as much of it as can come back on the same line), for each number of flows.
package.path = package.path .. ";perf/pktgen/?.lua"
local bench, search = require "bench", require "search"
local setup = bench.setup

local rate = search.highest(64, setup.overhead)
bench.report("64-byte frames, %d s a row, %.1f %% of %d Mbit/s offered", setup.trial_s, rate, bench.link())
bench.report("%-6s %14s %14s %14s %9s", "flows", "sent/s", "received/s", "lost/s", "lost")
for _, flows in ipairs(setup.flows) do
    bench.prepare("udp", flows.addresses, flows.ports)
    bench.establish(flows.addresses * flows.ports)
    local sent, received = bench.trial(64, rate, setup.trial_s)
    local lost = math.max(sent - received, 0)
    bench.report("%-6s %14.0f %14.0f %14.0f %8.4f%%", flows.name, sent / setup.trial_s, received / setup.trial_s,
        lost / setup.trial_s, 100 * lost / math.max(sent, 1))
end
