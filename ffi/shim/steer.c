#include "shim.h"

#include <rte_flow.h>

/* The table has this many entries at most, in groups as DPDK takes them. */
#define SHIM_RETA_GROUPS 64

int shim_flow_support(uint16_t port)
{
	const struct rte_flow_attr attr = {.ingress = 1};
	const struct rte_flow_item items[] = {{.type = RTE_FLOW_ITEM_TYPE_ETH}, {.type = RTE_FLOW_ITEM_TYPE_END}};
	const struct rte_flow_action_queue queue = {.index = 0};
	const struct rte_flow_action actions[] = {{.type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &queue},
						  {.type = RTE_FLOW_ACTION_TYPE_END}};
	struct rte_flow_error error = {0};

	return rte_flow_validate(port, &attr, items, actions, &error) != -ENOSYS;
}

int shim_spread(uint16_t port, uint16_t queues)
{
	struct rte_eth_rss_reta_entry64 table[SHIM_RETA_GROUPS] = {0};
	struct rte_eth_dev_info info = {0};
	int status = rte_eth_dev_info_get(port, &info);

	if (status < 0)
		return status;
	if (queues == 0 || info.reta_size == 0 || info.reta_size > SHIM_RETA_GROUPS * RTE_ETH_RETA_GROUP_SIZE)
		return -ENOTSUP;
	for (uint16_t entry = 0; entry < info.reta_size; entry++) {
		struct rte_eth_rss_reta_entry64 *group = &table[entry / RTE_ETH_RETA_GROUP_SIZE];

		group->mask |= UINT64_C(1) << (entry % RTE_ETH_RETA_GROUP_SIZE);
		group->reta[entry % RTE_ETH_RETA_GROUP_SIZE] = entry % queues;
	}
	return rte_eth_dev_rss_reta_update(port, table, info.reta_size);
}

/* Some drivers take the protocol in the IP header's item, some only as the item behind it. */
static struct rte_flow *create(uint16_t port, const struct shim_rule *rule, uint8_t protocol,
			       struct rte_flow_error *error)
{
	struct rte_flow_item_eth eth = {0}, eth_mask = {0};
	struct rte_flow_item_vlan vlan = {0}, vlan_mask = {0};
	struct rte_flow_item_ipv4 v4 = {0}, v4_mask = {0};
	struct rte_flow_item_ipv6 v6 = {0}, v6_mask = {0};
	struct rte_flow_item_udp udp = {0}, udp_mask = {0};
	struct rte_flow_item_tcp tcp = {0}, tcp_mask = {0};
	struct rte_flow_item_icmp6 icmp6 = {0}, icmp6_mask = {0};
	struct rte_flow_item items[5] = {0};
	uint16_t spread[SHIM_RULE_QUEUES] = {0};
	const struct rte_flow_attr attr = {.ingress = 1, .priority = rule->priority};
	const struct rte_flow_action_queue queue = {.index = rule->first_queue};
	const struct rte_flow_action_rss rss = {
		.types = SHIM_RSS_FUNCTIONS,
		.queue_num = rule->queues,
		.queue = spread,
	};
	const struct rte_flow_action actions[] = {
		{.type = rule->queues > 1 ? RTE_FLOW_ACTION_TYPE_RSS : RTE_FLOW_ACTION_TYPE_QUEUE,
		 .conf = rule->queues > 1 ? (const void *)&rss : (const void *)&queue},
		{.type = RTE_FLOW_ACTION_TYPE_END},
	};
	uint8_t address_mask[16] = {0};
	unsigned int n = 0;

	for (uint16_t i = 0; i < rule->queues && i < SHIM_RULE_QUEUES; i++)
		spread[i] = rule->first_queue + i;
	for (unsigned int bit = 0; bit < rule->prefix && bit < 128; bit++)
		address_mask[bit / 8] |= 0x80 >> (bit % 8);

	items[n].type = RTE_FLOW_ITEM_TYPE_ETH;
	if (rule->ether_type && !rule->vlan) {
		eth.hdr.ether_type = rte_cpu_to_be_16(rule->ether_type);
		eth_mask.hdr.ether_type = RTE_BE16(0xffff);
		items[n].spec = &eth;
		items[n].mask = &eth_mask;
	}
	n++;
	if (rule->vlan) {
		vlan.hdr.vlan_tci = rte_cpu_to_be_16(rule->vlan);
		vlan_mask.hdr.vlan_tci = RTE_BE16(0x0fff);
		if (rule->ether_type) {
			vlan.hdr.eth_proto = rte_cpu_to_be_16(rule->ether_type);
			vlan_mask.hdr.eth_proto = RTE_BE16(0xffff);
		}
		items[n++] = (struct rte_flow_item){
			.type = RTE_FLOW_ITEM_TYPE_VLAN, .spec = &vlan, .mask = &vlan_mask};
	}
	if (rule->family == 4) {
		memcpy(&v4.hdr.dst_addr, rule->destination, 4);
		memcpy(&v4_mask.hdr.dst_addr, address_mask, 4);
		v4.hdr.next_proto_id = protocol;
		v4_mask.hdr.next_proto_id = protocol ? 0xff : 0;
		items[n++] =
			(struct rte_flow_item){.type = RTE_FLOW_ITEM_TYPE_IPV4, .spec = &v4, .mask = &v4_mask};
	} else if (rule->family == 6) {
		memcpy(&v6.hdr.dst_addr, rule->destination, 16);
		memcpy(&v6_mask.hdr.dst_addr, address_mask, 16);
		v6.hdr.proto = protocol;
		v6_mask.hdr.proto = protocol ? 0xff : 0;
		items[n++] =
			(struct rte_flow_item){.type = RTE_FLOW_ITEM_TYPE_IPV6, .spec = &v6, .mask = &v6_mask};
	}
	udp.hdr.dst_port = tcp.hdr.dst_port = rte_cpu_to_be_16(rule->destination_port);
	udp.hdr.src_port = tcp.hdr.src_port = rte_cpu_to_be_16(rule->source_port);
	udp_mask.hdr.dst_port = tcp_mask.hdr.dst_port = rule->destination_port ? RTE_BE16(0xffff) : 0;
	udp_mask.hdr.src_port = tcp_mask.hdr.src_port = rule->source_port ? RTE_BE16(0xffff) : 0;
	icmp6.type = rule->icmp6_type;
	icmp6_mask.type = 0xff;
	if (rule->protocol == IPPROTO_UDP)
		items[n++] =
			(struct rte_flow_item){.type = RTE_FLOW_ITEM_TYPE_UDP, .spec = &udp, .mask = &udp_mask};
	else if (rule->protocol == IPPROTO_TCP)
		items[n++] =
			(struct rte_flow_item){.type = RTE_FLOW_ITEM_TYPE_TCP, .spec = &tcp, .mask = &tcp_mask};
	else if (rule->icmp6_type)
		items[n++] = (struct rte_flow_item){
			.type = RTE_FLOW_ITEM_TYPE_ICMP6, .spec = &icmp6, .mask = &icmp6_mask};
	items[n].type = RTE_FLOW_ITEM_TYPE_END;

	if (rte_flow_validate(port, &attr, items, actions, error) != 0)
		return NULL;
	return rte_flow_create(port, &attr, items, actions, error);
}

struct rte_flow *shim_rule_create(uint16_t port, const struct shim_rule *rule, const char **why)
{
	struct rte_flow_error error = {0};
	struct rte_flow *flow = create(port, rule, rule->protocol, &error);

	if (!flow && (rule->protocol == IPPROTO_UDP || rule->protocol == IPPROTO_TCP || rule->icmp6_type))
		flow = create(port, rule, 0, &error);
	*why = error.message;
	return flow;
}

void shim_rule_destroy(uint16_t port, struct rte_flow *flow)
{
	struct rte_flow_error error = {0};

	rte_flow_destroy(port, flow, &error);
}

void shim_rules_flush(uint16_t port)
{
	struct rte_flow_error error = {0};

	rte_flow_flush(port, &error);
}
