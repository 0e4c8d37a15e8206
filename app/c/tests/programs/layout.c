/* The layouts that src/types.rs asserts, from the other side. */
#include <baton.h>

#ifndef __cplusplus
#define static_assert _Static_assert
#endif

static_assert(sizeof(struct baton_registration) == 56, "registration");
static_assert(offsetof(struct baton_registration, job) == 8, "job");
static_assert(offsetof(struct baton_registration, dvipa) == 16, "dvipa");
static_assert(offsetof(struct baton_registration, ports) == 24, "ports");
static_assert(offsetof(struct baton_registration, port_count) == 32, "port_count");
static_assert(offsetof(struct baton_registration, hold_accepts) == 40, "hold_accepts");
static_assert(offsetof(struct baton_registration, socket) == 48, "socket");

static_assert(sizeof(struct baton_terms) == 40, "terms");
static_assert(offsetof(struct baton_terms, state) == 0, "state");
static_assert(offsetof(struct baton_terms, state_bytes) == 8, "state_bytes");
static_assert(offsetof(struct baton_terms, unacknowledged) == 16, "unacknowledged");
static_assert(offsetof(struct baton_terms, wait_ms) == 20, "wait_ms");
static_assert(offsetof(struct baton_terms, given_back) == 24, "given_back");
static_assert(offsetof(struct baton_terms, given_back_bytes) == 32, "given_back_bytes");

static_assert(sizeof(struct baton_target_name) == 128, "target_name");

static_assert(sizeof(struct baton_choice) == 32, "choice");
static_assert(offsetof(struct baton_choice, job_count) == 8, "job_count");
static_assert(offsetof(struct baton_choice, besides) == 16, "besides");
static_assert(offsetof(struct baton_choice, besides_count) == 24, "besides_count");

static_assert(sizeof(struct baton_target_view) == 160, "target_view");
static_assert(offsetof(struct baton_target_view, connections) == 128, "connections");
static_assert(offsetof(struct baton_target_view, state) == 136, "state");
static_assert(offsetof(struct baton_target_view, weight_from) == 140, "weight_from");
static_assert(offsetof(struct baton_target_view, holds_accepts) == 144, "holds_accepts");
static_assert(offsetof(struct baton_target_view, has_load) == 148, "has_load");
static_assert(offsetof(struct baton_target_view, weight) == 152, "weight");
static_assert(offsetof(struct baton_target_view, cpu_permille) == 154, "cpu_permille");
static_assert(offsetof(struct baton_target_view, accept_queue_permille) == 156, "accept_queue_permille");
static_assert(offsetof(struct baton_target_view, memory_pressure_permille) == 158, "memory_pressure_permille");

static_assert(sizeof(struct baton_heard) == 216, "heard");
static_assert(offsetof(struct baton_heard, client) == 128, "client");
static_assert(offsetof(struct baton_heard, port) == 192, "port");
static_assert(offsetof(struct baton_heard, bytes) == 200, "bytes");
static_assert(offsetof(struct baton_heard, count) == 208, "count");

static_assert(sizeof(struct baton_connection) == 280, "connection");
static_assert(offsetof(struct baton_connection, fd) == 0, "fd");
static_assert(offsetof(struct baton_connection, client) == 4, "client");
static_assert(offsetof(struct baton_connection, dvipa) == 68, "dvipa");
static_assert(offsetof(struct baton_connection, state) == 136, "state");
static_assert(offsetof(struct baton_connection, state_bytes) == 144, "state_bytes");
static_assert(offsetof(struct baton_connection, giver) == 152, "giver");

int main(void) {
    return 0;
}
