/* The routing application of the counter service: asks each client for a name, and moves its connection to the target
 * that counts for this name. One that comes back is asked again.
 *
 *     counter-router DVIPA PORT
 */
#include <arpa/inet.h>
#include <baton.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "line.h"

static baton_application *application;
static uint16_t port;

/* Decides where a client goes. A target that rejects it is passed over. */
static void *route(void *client) {
    struct baton_target_name targets[64];
    struct baton_terms terms = {.state = "0", .state_bytes = 1, .unacknowledged = BATON_CARRY};
    int fd = (int)(intptr_t)client;
    char name[64];
    size_t count = 0, sum = 0;
    say(fd, "who are you?");
    if (read_line(fd, name, sizeof name) == 0 && baton_targets(application, port, targets, 64, &count) == BATON_OK) {
        if (count > 64) count = 64;
        for (const char *c = name; *c; c++) sum += (unsigned char)*c;
        for (size_t i = 0; i < count; i++) {
            if (baton_transfer(application, fd, targets[(sum + i) % count].text, &terms) == BATON_OK) return NULL;
            fprintf(stderr, "%s\n", baton_error_text());
        }
        say(fd, "no target can count now");
    }
    close(fd);
    return NULL;
}

static void begin(int fd) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, route, (void *)(intptr_t)fd) == 0) pthread_detach(thread);
    else close(fd);
}

/* Takes the connections that targets have completed. */
static void *take_back(void *unused) {
    baton_offer *offer;
    struct baton_connection connection;
    (void)unused;
    while (baton_next_offer(application, -1, &offer) == BATON_OK)
        if (baton_accept(offer, &connection) == BATON_OK) {
            baton_free_state(&connection);
            begin(connection.fd);
        }
    fprintf(stderr, "%s\n", baton_error_text());
    exit(1);
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    pthread_t thread;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, fd;
    if (argc != 3 || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) {
        fprintf(stderr, "usage: counter-router DVIPA PORT\n");
        return 2;
    }
    port = (uint16_t)atoi(argv[2]);
    address.sin_port = htons(port);
    struct baton_registration registration = {
        .role = BATON_ROUTING, .job = "counter-router", .dvipa = argv[1], .ports = &port, .port_count = 1};
    if (baton_register(&registration, &application) != BATON_OK) {
        fprintf(stderr, "%s\n", baton_error_text());
        return 1;
    }
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128)) {
        perror("counter-router");
        return 1;
    }
    pthread_create(&thread, NULL, take_back, NULL);
    while ((fd = accept(listener, NULL, NULL)) >= 0) begin(fd);
    perror("counter-router");
    return 1;
}
