/* baton-app for C: give live TCP connections away, and be given others.
 *
 * Link with -lbaton_c. All calls may be made from several threads at once. A thread behind each application reads what the
 * agent says, and registers again when the agent has ended and come back; it takes no signals. A program that forks does so
 * before it registers.
 *
 * Calls that return int return BATON_OK (0), a positive number of enum baton_refusal (the agent does not do it), or a
 * negative one of enum baton_error. baton_error_text() then says what happened and what to do next. A connection whose
 * transfer was not done goes on where it is, and its descriptor stays open.
 */
#ifndef BATON_H
#define BATON_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BATON_OK 0

/* What went wrong on this side of the control socket. */
enum baton_error {
    BATON_NOTHING = -1,      /* nothing came within the time */
    BATON_NO_AGENT = -2,     /* the control socket can't be connected to, or there was no agent for half a minute */
    BATON_CLOSED = -3,       /* the agent that made an offer has ended: the connection goes on where it was */
    BATON_SYSTEM = -4,       /* a system call failed */
    BATON_BAD_ARGUMENT = -5, /* a pointer that must not be NULL, or a text that is none */
    BATON_IN_DOUBT = -6      /* the agent ended in the middle of a transfer and did not come back: close the fd */
};

/* Why the agent does not do it. */
enum baton_refusal {
    BATON_NOT_REGISTERED = 1,
    BATON_NO_CONNECTION = 2,
    BATON_STATE_TOO_LONG = 3,
    BATON_STATE_NOT_SEALED = 4,
    BATON_UNACKNOWLEDGED = 5,
    BATON_INVALID = 6,
    BATON_TOO_MANY = 7,
    BATON_STUCK = 8,
    BATON_SILENT = 9,
    BATON_TAKEN = 10,
    BATON_IMMOVABLE = 11,
    BATON_ALREADY_MOVING = 12,
    BATON_GIVEN_BACK = 13,
    BATON_SAME_STACK = 14,
    BATON_UNKNOWN_TARGET = 20,
    BATON_REJECTED = 21,
    BATON_NO_ANSWER = 22,
    BATON_ENDED = 23,
    BATON_TARGET_BUSY = 24,
    BATON_TAKES_NO_OFFERS = 25,
    BATON_NOT_TAKEN = 26,
    BATON_NOT_CONTENT_ROUTED = 30,
    BATON_NOT_ALLOWED = 31,
    BATON_AGENT_FULL = 32,
    BATON_NO_ROUTING_STACK = 40,
    BATON_ENDING = 41,
    BATON_ABORTED = 42
};

enum baton_role {
    BATON_ROUTING = 0, /* talks to clients first, on the stack that owns the DVIPA */
    BATON_TARGET = 1   /* connections are transferred to it */
};

/* What to do about bytes that were sent and that the client has not acknowledged. */
enum baton_unacknowledged {
    BATON_REFUSE = 0, /* do not move the connection */
    BATON_WAIT = 1,   /* wait wait_ms for the acknowledgement, then do not move it */
    BATON_CARRY = 2   /* move them too */
};

/* An application that the agent knows. */
typedef struct baton_application baton_application;
/* A connection that is offered. */
typedef struct baton_offer baton_offer;

struct baton_registration {
    enum baton_role role;
    const char *job;       /* 1 to 63 letters, digits, '-', '_' and '.' */
    const char *dvipa;     /* an IPv4 or IPv6 address */
    const uint16_t *ports; /* TCP ports, host order */
    size_t port_count;
    int hold_accepts;   /* a target: its listener gets no new connections, only transferred ones */
    const char *socket; /* the agent's control socket; NULL: BATON_CONTROL_SOCKET in the environment, or the usual one */
};

/* How a connection moves. A NULL pointer to it means: no state, BATON_REFUSE. */
struct baton_terms {
    const void *state; /* for the target application; at most 16 MiB; NULL: none */
    size_t state_bytes;
    enum baton_unacknowledged unacknowledged;
    uint32_t wait_ms;
    const void *given_back; /* the last bytes that were read from the connection: whoever gets it reads them first; at most
                             * 32 KiB, and no more than were read from this socket; NULL: none */
    size_t given_back_bytes;
};

/* An application that a connection can be transferred to: "job@stack". */
struct baton_target_name {
    char text[128];
};

/* A connection that has come. */
struct baton_connection {
    int fd;             /* its socket: yours to close */
    char client[64];    /* address:port */
    char dvipa[64];     /* address:port that the client has connected to */
    void *state;        /* what came with it; NULL: nothing. Freed by baton_free_state(). */
    size_t state_bytes;
};

/* Makes the application known. A routing application waits here until its stack owns the DVIPA. */
int baton_register(const struct baton_registration *registration, baton_application **application);

/* Ends the registration. Connections that the application has are its own. NULL is allowed. */
void baton_unregister(baton_application *application);

/* For an event loop: readable exactly while baton_next_offer() or baton_take_connection() would return with a time of zero. It
 * stays the same when the agent ends and comes back. */
int baton_descriptor(const baton_application *application);

/* The targets of a port now, sorted: writes at most `room`, and how many there are to `count`. */
int baton_targets(const baton_application *application, uint16_t port, struct baton_target_name *targets,
                  size_t room, size_t *count);

/* Moves a connection to a target that accepts it, and waits until it has moved: then `fd` is closed, and nothing is sent
 * to the client. There must be no other descriptor of it. */
int baton_transfer(const baton_application *application, int fd, const char *target,
                   const struct baton_terms *terms);

/* The same without asking the target, which takes it with baton_take_connection(). */
int baton_give_connection(const baton_application *application, int fd, const char *target,
                          const struct baton_terms *terms);

/* The client's transaction is complete: moves the connection to the routing application of its DVIPA and port. */
int baton_complete(const baton_application *application, int fd, const struct baton_terms *terms);

/* The next connection that is offered. timeout_ms < 0: waits as long as it takes, also for the next agent. An offer is
 * answered once, by baton_accept() or baton_reject(), which free it. A routing application is offered connections once it has
 * called this, baton_take_connection() or baton_descriptor(). */
int baton_next_offer(const baton_application *application, int timeout_ms, baton_offer **offer);

/* What is offered. The texts and the state live as long as the offer. */
const char *baton_offer_client(const baton_offer *offer);
const char *baton_offer_dvipa(const baton_offer *offer);
const char *baton_offer_job(const baton_offer *offer);
const void *baton_offer_state(const baton_offer *offer, size_t *state_bytes);

/* Takes an offered connection, and waits until it is here. A positive number or BATON_CLOSED: it could not move after all, and
 * goes on where it was; wait for the next offer. BATON_IN_DOUBT: the agent ended when it had come, and no other came. */
int baton_accept(baton_offer *offer, struct baton_connection *connection);

/* Does not take it; the reason reaches the application that has it. */
int baton_reject(baton_offer *offer, const char *reason);

/* The next connection that was given to this application without asking it. timeout_ms < 0: as long as it takes. One that
 * nobody takes within a minute is closed. */
int baton_take_connection(const baton_application *application, int timeout_ms,
                          struct baton_connection *connection);

/* Frees the state of a connection; its descriptor stays open. */
void baton_free_state(struct baton_connection *connection);

/* What the last call of this thread that failed has to say. Never NULL. */
const char *baton_error_text(void);

#ifdef __cplusplus
}
#endif
#endif
