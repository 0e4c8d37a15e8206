/* Calls that must be refused, with a text that says why. */
#include <baton.h>
#include <stdio.h>
#include <string.h>

static int failures;

static void expect(int result, int expected, const char *text, const char *call) {
    if (result == expected && strstr(baton_error_text(), text) != NULL) return;
    printf("%s: %d (%s) instead of %d (%s)\n", call, result, baton_error_text(), expected, text);
    failures++;
}

int main(void) {
    uint16_t port = 80;
    baton_application *application = NULL;
    baton_offer *offer = NULL;
    struct baton_connection connection;
    struct baton_registration registration = {BATON_TARGET, "job", "198.18.9.1", &port, 1, 0, "/nowhere/at.all"};
    size_t count = 1;

    memset(&connection, 0, sizeof connection);
    expect(baton_register(NULL, &application), BATON_BAD_ARGUMENT, "registration is NULL", "no registration");
    expect(baton_register(&registration, &application), BATON_NO_AGENT, "is baton-agent running", "no agent");
    expect(baton_register_listener(&registration, -1, &application), BATON_BAD_ARGUMENT, "fd is negative", "listener");
    registration.job = "a job";
    expect(baton_register(&registration, &application), BATON_BAD_ARGUMENT, "not a job name", "job");
    registration.job = "\xff";
    expect(baton_register(&registration, &application), BATON_BAD_ARGUMENT, "UTF-8", "bytes");
    registration.job = "job";
    registration.dvipa = "198.18.9";
    expect(baton_register(&registration, &application), BATON_BAD_ARGUMENT, "IP address", "dvipa");
    registration.dvipa = "198.18.9.1";
    registration.port_count = 0;
    expect(baton_register(&registration, &application), BATON_BAD_ARGUMENT, "1 to 1024 ports", "no ports");
    registration.port_count = 1;
    registration.ports = NULL;
    expect(baton_register(&registration, &application), BATON_BAD_ARGUMENT, "ports is NULL", "ports");
    expect(baton_transfer(NULL, 0, "job@t1", NULL), BATON_BAD_ARGUMENT, "application is NULL", "transfer");
    expect(baton_transfer(NULL, 0, "job", NULL), BATON_BAD_ARGUMENT, "JOB@STACK", "target");
    expect(baton_give_connection(NULL, 0, NULL, NULL), BATON_BAD_ARGUMENT, "target is NULL", "give");
    expect(baton_complete(NULL, -1, NULL), BATON_BAD_ARGUMENT, "application is NULL", "complete");
    expect(baton_targets(NULL, 80, NULL, 0, &count), BATON_BAD_ARGUMENT, "application is NULL", "targets");
    expect(baton_choose(NULL, 80, "198.18.0.2:1", NULL, NULL), BATON_BAD_ARGUMENT, "application is NULL", "choose");
    expect(baton_target_views(NULL, 80, NULL, 0, &count), BATON_BAD_ARGUMENT, "application is NULL", "views");
    expect(baton_descriptor(NULL), BATON_BAD_ARGUMENT, "application is NULL", "descriptor");
    expect(baton_next_offer(NULL, 0, &offer), BATON_BAD_ARGUMENT, "application is NULL", "next offer");
    expect(baton_take_connection(NULL, 0, &connection), BATON_BAD_ARGUMENT, "application is NULL", "take");
    expect(baton_accept(NULL, &connection), BATON_BAD_ARGUMENT, "offer is NULL", "accept");
    expect(baton_reject(NULL, "no"), BATON_BAD_ARGUMENT, "offer is NULL", "reject");
    expect(baton_say(NULL, 80, "job@t1", NULL, "", 0), BATON_BAD_ARGUMENT, "application is NULL", "say");
    expect(baton_hear(NULL, 0, NULL), BATON_BAD_ARGUMENT, "application is NULL", "hear");
    baton_free_heard(NULL);
    if (baton_offer_giver(NULL) || baton_offer_client(NULL) || baton_offer_dvipa(NULL) || baton_offer_job(NULL) ||
        baton_offer_state(NULL, &count) || count != 0)
        failures++;
    baton_unregister(NULL);
    baton_free_state(NULL);
    baton_free_state(&connection);
    return failures;
}
