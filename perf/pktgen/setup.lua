-- What differs from bench to bench: change it here. perf/pktgen/README.md says how it is wired.
return {
    send = "0",                     -- Pktgen's port towards batond
    receive = "0",                  -- its port where the targets' packets come back
    router_mac = "02:00:00:00:00:10", -- batond's NIC
    dvipa = "198.18.9.1",
    udp_port = 53,                  -- distributed, protocol = "udp"
    tcp_port = 80,                  -- distributed, protocol = "tcp"
    first_client = "198.19.0.1",    -- in a network that batond's node has a route to
    overhead = 20,                  -- bytes that batond adds: IPIP 20, GUE 36 (both over IPv4), L2 0

    trial_s = 60,                   -- RFC 2544 24: at least 60 for the result; the search may use less
    search_s = 10,
    rest_s = 2,                     -- RFC 2544 23 d: until the last packets are back
    settle_s = 5,                   -- RFC 2544 23 e: before the next trial
    resolution = 0.1,               -- percent of the line's rate
    results = "pktgen-results.txt",

    -- Numbers of flows. Pktgen counts addresses and ports up together, so that as many pairs as the product come
    -- only if the two have no common divisor.
    flows = {
        { name = "1k", addresses = 1, ports = 1000 },
        { name = "100k", addresses = 100, ports = 1001 },
        { name = "1M", addresses = 1000, ports = 1001 },
        { name = "10M", addresses = 10000, ports = 1001 },
    },
}
