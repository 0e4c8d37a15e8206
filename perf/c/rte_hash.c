/* DPDK's own hash table in its lock-free mode, the peer of the connection table. */
#include <stdint.h>

#include <rte_hash.h>
#include <rte_hash_crc.h>

enum { BURST = 32 };

/* A connection as an application of rte_hash would write it; 16 bytes, for which it has its fastest comparison. */
struct key {
	uint32_t client;
	uint16_t client_port;
	uint16_t dvipa_port;
	uint32_t dvipa;
	uint32_t protocol;
};

static inline uint64_t next(uint64_t *x)
{
	*x = *x * 6364136223846793005u + 1442695040888963407u;
	return *x >> 32;
}

/* As `keys::v4`. */
static inline struct key key_of(uint32_t n)
{
	return (struct key){
		.client = n * 0x9e3779b1u, .client_port = n >> 7, .dvipa_port = 443, .dvipa = n & 3, .protocol = 6,
	};
}

struct rte_hash *perf_rte_hash_new(uint32_t entries)
{
	struct rte_hash_parameters parameters = {
		.name = "perf",
		.entries = entries,
		.key_len = sizeof(struct key),
		.hash_func = rte_hash_crc,
		.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF,
	};
	return rte_hash_create(&parameters);
}

void perf_rte_hash_free(struct rte_hash *table)
{
	rte_hash_free(table);
}

/* Inserts the keys from `from` to `to`; returns how many did not fit. */
uint64_t perf_rte_hash_insert(struct rte_hash *table, uint32_t from, uint32_t to)
{
	uint64_t refused = 0;
	for (uint32_t n = from; n < to; n++) {
		struct key key = key_of(n);
		refused += rte_hash_add_key_data(table, &key, (void *)(uintptr_t)n) != 0;
	}
	return refused;
}

/* Looks up `bursts` times 32 random ones of the keys `base`..`base + n`; returns how many were found. */
uint64_t perf_rte_hash_lookup(const struct rte_hash *table, uint64_t base, uint64_t n, uint64_t bursts, uint64_t seed)
{
	uint64_t found = 0;
	for (uint64_t b = 0; b < bursts; b++) {
		struct key keys[BURST];
		const void *pointers[BURST];
		void *data[BURST];
		uint64_t hits = 0;
		for (int i = 0; i < BURST; i++) {
			keys[i] = key_of(base + ((next(&seed) * n) >> 32));
			pointers[i] = &keys[i];
		}
		rte_hash_lookup_bulk_data(table, pointers, BURST, &hits, data);
		found += __builtin_popcountll(hits);
	}
	return found;
}

/* What making the keys alone costs. */
uint64_t perf_rte_hash_source(uint64_t base, uint64_t n, uint64_t bursts, uint64_t seed)
{
	uint64_t sum = 0;
	for (uint64_t b = 0; b < bursts; b++) {
		struct key keys[BURST];
		for (int i = 0; i < BURST; i++)
			keys[i] = key_of(base + ((next(&seed) * n) >> 32));
		__asm__ volatile("" : : "r"(keys) : "memory");
		sum += keys[b % BURST].client;
	}
	return sum;
}
