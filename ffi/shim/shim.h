/* What of DPDK is `static inline` or a macro, as functions and constants that Rust can name. */
#ifndef BATON_SHIM_H
#define BATON_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* The hash functions that spread a client's packets over the queues: addresses, and ports where there are some. */
static const uint64_t SHIM_RSS_FUNCTIONS = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP;
static const uint64_t SHIM_TX_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
/* Devices that find out whether an IPv4 header's checksum is right. */
static const uint64_t SHIM_RX_IPV4_CHECKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint32_t SHIM_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const uint32_t SHIM_ETHER_OVERHEAD = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;

/*
 * Where the fields of an mbuf are. Newer headers (23.11, 24.11) put them into anonymous unions, which C sees through and
 * generated bindings name differently in each version; the offsets are the same in all of them.
 */
enum {
	SHIM_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	SHIM_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	SHIM_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	SHIM_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	SHIM_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	SHIM_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	SHIM_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	SHIM_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
};
#define SHIM_IS(field, bytes) _Static_assert(sizeof(((struct rte_mbuf *)0)->field) == (bytes), #field)
SHIM_IS(buf_addr, sizeof(void *));
SHIM_IS(buf_len, 2);
SHIM_IS(data_off, 2);
SHIM_IS(data_len, 2);
SHIM_IS(pkt_len, 4);
SHIM_IS(nb_segs, 2);
SHIM_IS(ol_flags, 8);
SHIM_IS(vlan_tci, 2);

/*
 * What a device found out about the checksum of the IPv4 header. Of a tunnelled packet whose tunnel it knows, the first flags
 * are about the inner header and another one is about the outer.
 */
static const uint64_t SHIM_RX_IPV4_CHECKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_OUTER_IP_CKSUM_BAD;
static const uint64_t SHIM_RX_IPV4_CHECKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
/* The device took the VLAN tag off the packet: it is in `vlan_tci` only. */
static const uint64_t SHIM_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;

int shim_errno(void);
int shim_link_is_up(uint16_t port);
uint64_t shim_tsc(void);
void shim_pause(void);

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **burst, uint16_t count);
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **burst, uint16_t count);

struct rte_mbuf *shim_mbuf_alloc(struct rte_mempool *pool);
void shim_mbuf_free(struct rte_mbuf *mbuf);

/* The queues that a rule may spread over. */
#define SHIM_RULE_QUEUES 128

/* Which packets a rule takes: those that are alike in every field that is not 0 (of the address, in so many bits). */
struct shim_rule {
	uint32_t priority; /* 0 is the highest */
	uint16_t first_queue;
	uint16_t queues;
	uint16_t vlan;
	uint16_t ether_type; /* the one behind the tag, if there is one */
	uint16_t source_port;
	uint16_t destination_port;
	uint8_t family; /* 4 or 6 */
	uint8_t prefix;
	uint8_t protocol;
	uint8_t icmp6_type;
	uint8_t destination[16]; /* of IPv4, the first four */
};

struct rte_flow;

/* Whether the driver knows of rules at all. */
int shim_flow_support(uint16_t port);
/* Has the table of RSS name the first so many queues only. */
int shim_spread(uint16_t port, uint16_t queues);
/* Makes a rule, or returns NULL with rte_errno, and with a constant string or NULL in `why`. */
struct rte_flow *shim_rule_create(uint16_t port, const struct shim_rule *rule, const char **why);
void shim_rule_destroy(uint16_t port, struct rte_flow *flow);
void shim_rules_flush(uint16_t port);

#endif
