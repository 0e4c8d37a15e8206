/* baton-app for C: give live TCP connections away, and be given others.
 *
 * `pkg-config --cflags --libs baton` says how to compile and link. All calls may be made from several threads at once. A thread
 * behind each application reads what the agent says, and registers again when the agent has ended and come back; it takes no
 * signals. A program that forks does so before it registers: in a child every call returns BATON_FORKED.
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
    BATON_IN_DOUBT = -6,     /* the agent ended in the middle of a transfer and did not come back: close the fd */
    BATON_FORKED = -7        /* this is a child of the process that has registered: register in the child */
};

/* Why the agent does not do it. From 1000 on: why a transfer was given up (the connection goes on where it is). */
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
    BATON_IMMOVABLE = 11,
    BATON_ALREADY_MOVING = 12,
    BATON_GIVEN_BACK = 13,
    BATON_SAME_STACK = 14,
    BATON_JOB_TAKEN = 15,
    BATON_NOT_NOW = 16,
    BATON_NO_LISTENER = 17,
    BATON_UNKNOWN_TARGET = 20,
    BATON_REJECTED = 21,
    BATON_NO_ANSWER = 22,
    BATON_ENDED = 23,
    BATON_TARGET_BUSY = 24,
    BATON_TAKES_NO_OFFERS = 25,
    BATON_NOT_TAKEN = 26,
    BATON_GONE = 27,
    BATON_NO_TARGET = 28,
    BATON_NOT_CONTENT_ROUTED = 30,
    BATON_NOT_ALLOWED = 31,
    BATON_AGENT_FULL = 32,
    BATON_NOT_PERMITTED = 33,
    BATON_NOT_DISTRIBUTED = 34,
    BATON_NOT_A_DVIPA = 35,
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
    const uint16_t *ports; /* 1 to 1024 TCP ports, host order */
    size_t port_count;
    int hold_accepts;   /* a target: its listener gets no new connections, only transferred ones; without
                         * baton_register_listener() all listeners of its ports on this host get none */
    const char *socket; /* the agent's control socket; NULL: BATON_CONTROL_SOCKET in the environment, or the usual one */
};

/* How a connection moves. A NULL pointer to it means: no state, BATON_REFUSE. */
struct baton_terms {
    const void *state; /* for the target application; at most 16 MiB; NULL: none */
    size_t state_bytes;
    enum baton_unacknowledged unacknowledged;
    uint32_t wait_ms;
    const void *given_back; /* the last bytes that were read from the connection: the next application reads them first; at most
                             * 32 KiB, and no more than were read from this socket; NULL: none */
    size_t given_back_bytes;
};

/* An application that a connection can be transferred to: "job@stack". */
struct baton_target_name {
    char text[128];
};

/* What the cluster chooses a target from. A NULL pointer to it means: all targets of the port. */
struct baton_choice {
    const char *const *jobs; /* applications of these names, at most 256; none: of any */
    size_t job_count;
    const struct baton_target_name *besides; /* but not these, at most 256: those that have refused the connection */
    size_t besides_count;
};

/* Whether a target is chosen, and if not, why. A number of the future is 255. */
enum baton_target_state {
    BATON_READY = 0,
    BATON_DRAINING = 1,    /* an operator drains it: nothing is transferred to it */
    BATON_WEIGHT_ZERO = 2, /* it gets only what is transferred to it by name */
    BATON_QUIET = 3,       /* nothing was heard of its stack for a moment: chosen only if no other is left */
    BATON_STALLED = 4      /* its server accepts none of the clients that wait: chosen only if no other is left */
};

/* Where a weight comes from. A number of the future is 255. */
enum baton_weight_from {
    BATON_EQUAL = 0,
    BATON_CONFIGURED = 1, /* the definition */
    BATON_LOAD = 2,       /* the load that the target reports */
    BATON_CONTROLLER = 3  /* an outside controller, until it expires */
};

/* How a target is. */
struct baton_target_view {
    struct baton_target_name target;
    uint64_t connections; /* of its stack, all services together */
    int state;            /* enum baton_target_state */
    int weight_from;      /* enum baton_weight_from */
    int holds_accepts;    /* its listener takes no clients, only transferred connections */
    int has_load;         /* 0: its stack did not say how busy it is */
    uint16_t weight;      /* its share relative to the others', for clients that no policy is about */
    uint16_t cpu_permille;
    uint16_t accept_queue_permille;    /* how full the fullest one is */
    uint16_t memory_pressure_permille; /* share of time in which some task waited for memory */
};

/* A connection that has come. */
struct baton_connection {
    int fd;             /* its socket: yours to close */
    char client[64];    /* address:port */
    char dvipa[64];     /* address:port that the client has connected to */
    void *state;        /* what came with it; NULL: nothing. Freed by baton_free_state(). */
    size_t state_bytes;
    char giver[128];    /* who had it before, as "job@stack"; empty: it is not known */
};

/* What another application says. */
struct baton_heard {
    char from[128];  /* who, as "job@stack" */
    char client[64]; /* address:port of the client whose connection it is about; empty: it is about none */
    uint16_t port;   /* the port that both have registered for */
    void *bytes;     /* freed by baton_free_heard() */
    size_t count;
};

/* Makes the application known. A routing application waits here until its stack owns the DVIPA. */
int baton_register(const struct baton_registration *registration, baton_application **application);

/* The same, and names the listening socket that takes the application's clients: on one of the registration's ports, and on its
 * DVIPA or on any address. Sockets that are named for a port take its clients in turn, whichever applications they are of, and no
 * other listener of that port takes any. While a routing application waits, and with hold_accepts, its socket takes none.
 * The socket listens until baton_unregister(), even if the caller closes `listener`. */
int baton_register_listener(const struct baton_registration *registration, int listener,
                            baton_application **application);

/* Ends the registration. Connections that the application has are its own. NULL is allowed. */
void baton_unregister(baton_application *application);

/* For an event loop: readable exactly while baton_next_offer(), baton_take_connection() or baton_hear() would return with a time of
 * zero. It stays the same when the agent ends and comes back. */
int baton_descriptor(const baton_application *application);

/* The targets of a port now, sorted: writes at most `room`, and how many there are to `count`. */
int baton_targets(const baton_application *application, uint16_t port, struct baton_target_name *targets,
                  size_t room, size_t *count);

/* The target that the cluster chooses for a client's connection, as it selects targets for new connections: by the service's method,
 * weights, policies and drains. `client` is address:port. BATON_NO_TARGET: there is none to choose. Nothing is transferred yet. */
int baton_choose(const baton_application *application, uint16_t port, const char *client,
                 const struct baton_choice *choice, struct baton_target_name *target);

/* How the targets of a port are, sorted by name, at most a second ago: writes at most `room`, and how many there are to `count`. */
int baton_target_views(const baton_application *application, uint16_t port, struct baton_target_view *views,
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
/* The application that has it now, as "job@stack"; NULL: it is not known. */
const char *baton_offer_giver(const baton_offer *offer);
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

/* Says something to another application of the port: at most 32 KiB. It comes to it at most once, in order, and without an answer;
 * it is lost if that application, or a stack on the way, has ended, or if it does not listen. `client`: the client, as address:port, of
 * the connection that it is about, or NULL; of several processes it comes to the one that was transferred that connection. */
int baton_say(const baton_application *application, uint16_t port, const char *target, const char *client,
              const void *bytes, size_t count);

/* What another application says next. timeout_ms < 0: as long as it takes. Messages are kept from the first call on, which may have
 * a time of zero; what came before is lost. 1024 messages wait to be read, later ones are lost. */
int baton_hear(const baton_application *application, int timeout_ms, struct baton_heard *heard);

/* Frees the bytes of a message. */
void baton_free_heard(struct baton_heard *heard);

/* What the last call of this thread that failed has to say. Never NULL. */
const char *baton_error_text(void);

#ifdef __cplusplus
}
#endif
#endif
