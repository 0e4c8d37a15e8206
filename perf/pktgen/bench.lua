-- Packets for batond, by Pktgen-DPDK (its Lua functions as of 26.02).
local search = require "search"
local setup = require "setup"
local bench = { setup = setup }

local function all(range, port, first, last, step)
    range(port, "start", first)
    range(port, "inc", step)
    range(port, "min", first)
    range(port, "max", last)
end

-- Prints a line and appends it to the results.
function bench.report(...)
    local text = string.format(...)
    print(text)
    local file = assert(io.open(setup.results, "a"))
    file:write(text, "\n")
    file:close()
end

-- Mbit/s of the link that packets leave through.
function bench.link()
    local state = pktgen.linkState(setup.send)[tonumber(setup.send)]
    local mbit = tonumber(tostring(state):match("%d+"))
    assert(mbit and mbit > 0, "port " .. setup.send .. " has no link: " .. tostring(state))
    return mbit
end

-- Readies both ports for packets of `protocol` ("udp", "tcp") from so many client addresses and ports.
function bench.prepare(protocol, addresses, ports)
    assert(search.common_divisor(addresses, ports) == 1,
        "addresses and ports have a common divisor: not all pairs would come")
    local send, range = setup.send, pktgen.range
    local port = protocol == "tcp" and setup.tcp_port or setup.udp_port
    for _, each in ipairs({ send, setup.receive }) do
        pktgen.stop(each)
        pktgen.reset(each)
    end
    pktgen.set_mac(send, "dst", setup.router_mac)
    range.ip_proto(send, protocol)
    all(range.dst_mac, send, setup.router_mac, setup.router_mac, "00:00:00:00:00:00")
    all(range.src_ip, send, setup.first_client, search.address(setup.first_client, addresses - 1), "0.0.0.1")
    all(range.dst_ip, send, setup.dvipa, setup.dvipa, "0.0.0.0")
    all(range.src_port, send, 1024, 1024 + ports - 1, 1)
    all(range.dst_port, send, port, port, 0)
    pktgen.set_range(send, "on")
end

-- Readies the frames that do not follow the ranges: from the first client and this port.
function bench.single(protocol, client_port)
    local send = setup.send
    pktgen.set_proto(send, protocol)
    pktgen.set_ipaddr(send, "src", setup.first_client .. "/32")
    pktgen.set_ipaddr(send, "dst", setup.dvipa)
    pktgen.set(send, "sport", client_port)
    pktgen.set(send, "dport", protocol == "tcp" and setup.tcp_port or setup.udp_port)
end

-- Pktgen 22.07 to 23.03 also takes which statistics are meant, and has them without `curr`.
local function count(port, field)
    local known, all = pcall(pktgen.portStats, port)
    local stats = (known and all or pktgen.portStats(port, "port"))[tonumber(port)]
    return (stats.curr or stats)[field]
end

-- Sends frames of so many bytes (with the FCS, as RFC 2544 counts) at a rate in percent of the line. Returns the frames
-- sent and received; strangers' frames (ARP) may count among the latter.
function bench.trial(frame, rate, seconds)
    all(pktgen.range.pkt_size, setup.send, frame, frame, 0)
    pktgen.set(setup.send, "rate", rate)
    pktgen.set(setup.send, "count", 0)
    pktgen.clr()
    pktgen.start(setup.send)
    pktgen.delay(math.floor(seconds * 1000))
    pktgen.stop(setup.send)
    pktgen.delay(math.floor(setup.rest_s * 1000))
    local sent, received = count(setup.send, "opackets"), count(setup.receive, "ipackets")
    pktgen.delay(math.floor(setup.settle_s * 1000))
    return sent, received
end

-- Sends each flow's first packets, slowly: a UDP connection is established with its second one.
function bench.establish(flows)
    local mbit, rate = bench.link(), 10
    local seconds = 3 * flows / (search.line_pps(mbit, 64) * rate / 100) + 1
    bench.trial(64, rate, seconds)
end

-- The throughput of RFC 2544 26.1 for one frame size: percent of the line, and frames a second. The rate that a search with
-- short trials finds is confirmed by a long one, and lowered until that holds.
function bench.throughput(frame)
    local highest = search.highest(frame, setup.overhead)
    local rate = search.throughput(function(rate)
        return bench.trial(frame, rate, setup.search_s)
    end, highest, setup.resolution)
    while rate > 0 do
        local sent, received = bench.trial(frame, rate, setup.trial_s)
        if received >= sent then
            return rate, sent / setup.trial_s
        end
        rate = math.max(rate - setup.resolution, 0)
    end
    return 0, 0
end

return bench
