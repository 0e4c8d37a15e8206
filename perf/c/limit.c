/* The limit that the connection table is measured against: one random line out of so many, bursts of 32 prefetches.
 * The same generator as in keys.rs chooses the lines. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BURST = 32, HUGE_PAGE = 2 << 20 };

/* Lines in huge pages, as the connection table has them. */
uint64_t *perf_lines_new(uint64_t lines)
{
	uint64_t bytes = (lines * 64 + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
	uint64_t *memory = aligned_alloc(HUGE_PAGE, bytes);
	if (memory) {
		madvise(memory, bytes, MADV_HUGEPAGE);
		memset(memory, 1, bytes);
	}
	return memory;
}

void perf_lines_free(uint64_t *memory)
{
	free(memory);
}

static inline uint64_t next(uint64_t *x)
{
	*x = *x * 6364136223846793005u + 1442695040888963407u;
	return *x >> 32;
}

/* Reads `bursts` times 32 lines; returns their sum, so that nothing is left out. */
uint64_t perf_limit(const uint64_t *memory, uint64_t lines, uint64_t bursts, uint64_t seed)
{
	uint64_t sum = 0;
	for (uint64_t b = 0; b < bursts; b++) {
		const uint64_t *line[BURST];
		for (int i = 0; i < BURST; i++) {
			line[i] = memory + 8 * ((next(&seed) * lines) >> 32);
			__builtin_prefetch(line[i]);
		}
		for (int i = 0; i < BURST; i++)
			sum += *(const volatile uint64_t *)line[i];
	}
	return sum;
}

/* What the choice of the lines alone costs. */
uint64_t perf_limit_source(const uint64_t *memory, uint64_t lines, uint64_t bursts, uint64_t seed)
{
	for (uint64_t b = 0; b < bursts; b++) {
		const uint64_t *line[BURST];
		for (int i = 0; i < BURST; i++)
			line[i] = memory + 8 * ((next(&seed) * lines) >> 32);
		__asm__ volatile("" : : "r"(line) : "memory");
	}
	return seed;
}
