/* A target application of the counter service: each line of a client is answered by the number of lines so far. The count
 * is the application state that moves along. The line `move JOB@STACK` moves the client on to another target, `done` back
 * to the router.
 *
 *     counter-target JOB DVIPA PORT
 */
#include <baton.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "line.h"

static baton_application *application;

static void *serve(void *arrived) {
    struct baton_connection connection = *(struct baton_connection *)arrived;
    char line[160], count[24] = "0";
    struct baton_terms terms = {.state = count, .unacknowledged = BATON_CARRY};
    int result = BATON_OK;
    free(arrived);
    if (connection.state_bytes < sizeof count) memcpy(count, connection.state, connection.state_bytes);
    baton_free_state(&connection);
    while (read_line(connection.fd, line, sizeof line) == 0) {
        terms.state_bytes = strlen(count);
        if (strncmp(line, "move ", 5) == 0)
            result = baton_transfer(application, connection.fd, line + 5, &terms);
        else if (strcmp(line, "done") == 0)
            result = baton_complete(application, connection.fd, &terms);
        else {
            snprintf(count, sizeof count, "%lu", strtoul(count, NULL, 10) + 1);
            say(connection.fd, count);
            continue;
        }
        if (result == BATON_OK) return NULL;
        say(connection.fd, baton_error_text());
    }
    close(connection.fd);
    return NULL;
}

int main(int argc, char **argv) {
    uint16_t port = (uint16_t)(argc == 4 ? atoi(argv[3]) : 0);
    struct baton_registration registration = {.role = BATON_TARGET, .ports = &port, .port_count = 1};
    baton_offer *offer;
    if (argc != 4) {
        fprintf(stderr, "usage: counter-target JOB DVIPA PORT\n");
        return 2;
    }
    registration.job = argv[1];
    registration.dvipa = argv[2];
    if (baton_register(&registration, &application) == BATON_OK)
        while (baton_next_offer(application, -1, &offer) == BATON_OK) {
            struct baton_connection *connection = calloc(1, sizeof *connection);
            pthread_t thread;
            if (connection == NULL) {
                baton_reject(offer, "out of memory");
            } else if (baton_accept(offer, connection) != BATON_OK) {
                free(connection);
            } else if (pthread_create(&thread, NULL, serve, connection) == 0) {
                pthread_detach(thread);
            }
        }
    fprintf(stderr, "%s\n", baton_error_text());
    return 1;
}
