/* A routing application and two targets in one program: what is chosen, and what is shown. */
#include <baton.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static baton_application *known(enum baton_role role, const char *job, const uint16_t *port) {
    struct baton_registration registration = {role, job, "127.0.0.1", port, 1, 0, NULL};
    baton_application *application = NULL;
    if (baton_register(&registration, &application) != BATON_OK) {
        printf("%s\n", baton_error_text());
        exit(1);
    }
    return application;
}

static void choose(const baton_application *router, const struct baton_choice *choice) {
    struct baton_target_name target;
    int result = baton_choose(router, 80, "127.0.0.2:1", choice, &target);
    printf("%s\n", result == BATON_OK ? target.text : result == BATON_NO_TARGET ? "none" : baton_error_text());
}

int main(void) {
    uint16_t port = 80;
    baton_application *one = known(BATON_TARGET, "one", &port), *two = known(BATON_TARGET, "two", &port);
    baton_application *router = known(BATON_ROUTING, "router", &port);
    const char *jobs[] = {"nobody", "two"};
    struct baton_target_name besides = {"one@here"};
    struct baton_choice of_jobs = {jobs, 2, NULL, 0}, without_one = {NULL, 0, &besides, 1}, of_none = {jobs, 1, NULL, 0};
    struct baton_target_view views[2];
    size_t count = 0;

    choose(router, NULL);
    choose(router, NULL);
    choose(router, &of_jobs);
    choose(router, &without_one);
    choose(router, &of_none);
    if (baton_target_views(router, 80, views, 2, &count) != BATON_OK) printf("%s\n", baton_error_text());
    for (size_t i = 0; i < count; i++)
        printf("%s %d %u %d %llu %d %u\n", views[i].target.text, views[i].state == BATON_READY, views[i].weight,
               views[i].weight_from == BATON_EQUAL, (unsigned long long)views[i].connections, views[i].has_load,
               views[i].cpu_permille);
    baton_unregister(router);
    baton_unregister(one);
    baton_unregister(two);
    return 0;
}
