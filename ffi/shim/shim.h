/* What of DPDK is `static inline` or a macro, as functions and constants that Rust can name. */
#ifndef BATON_SHIM_H
#define BATON_SHIM_H

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
static const uint32_t SHIM_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const uint32_t SHIM_ETHER_OVERHEAD = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;

int shim_errno(void);
uint64_t shim_tsc(void);
void shim_pause(void);

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **burst, uint16_t count);
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **burst, uint16_t count);

struct rte_mbuf *shim_mbuf_alloc(struct rte_mempool *pool);
void shim_mbuf_free(struct rte_mbuf *mbuf);

#endif
