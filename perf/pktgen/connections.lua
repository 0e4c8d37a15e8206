-- New connections a second: SYNs of which each is from another address and port, at a rate that rises until some are lost.
package.path = package.path .. ";perf/pktgen/?.lua"
local bench, search = require "bench", require "search"
local setup = bench.setup

-- 60 million pairs: none comes twice within the life of a half-open entry.
local ADDRESSES, PORTS = 1009, 60000
local STEP, STEP_S = 5, 10

bench.prepare("tcp", ADDRESSES, PORTS)
pktgen.load("perf/pktgen/syn.pkt")
bench.report("SYNs of distinct clients, %d s a step", STEP_S)
bench.report("%8s %14s %14s %9s", "of line", "sent/s", "forwarded/s", "lost")
local highest, best = search.highest(64, setup.overhead), 0
for rate = STEP, highest, STEP do
    local sent, received = bench.trial(64, rate, STEP_S)
    local lost = math.max(sent - received, 0)
    bench.report("%7d%% %14.0f %14.0f %8.4f%%", rate, sent / STEP_S, received / STEP_S, 100 * lost / math.max(sent, 1))
    if lost > 0 then
        break
    end
    best = sent / STEP_S
end
bench.report("highest rate without loss: %.0f new connections a second", best)
