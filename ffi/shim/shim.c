#include "shim.h"

#include <rte_cycles.h>
#include <rte_pause.h>

int shim_errno(void) { return rte_errno; }

int shim_link_is_up(uint16_t port)
{
	struct rte_eth_link link = {0};

	return rte_eth_link_get_nowait(port, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

uint64_t shim_tsc(void) { return rte_rdtsc(); }

void shim_pause(void) { rte_pause(); }

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **burst, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, burst, count);
}

uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **burst, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, burst, count);
}

struct rte_mbuf *shim_mbuf_alloc(struct rte_mempool *pool) { return rte_pktmbuf_alloc(pool); }

void shim_mbuf_free(struct rte_mbuf *mbuf) { rte_pktmbuf_free(mbuf); }
