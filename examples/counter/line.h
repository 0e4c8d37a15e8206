/* Lines, read without a buffer behind the kernel's: what this program has not asked for moves with the connection. */
#ifndef LINE_H
#define LINE_H

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Reads a line without its end; -1 if the client has closed, or the line is too long. */
static inline int read_line(int fd, char *line, size_t room) {
    for (size_t i = 0; i < room; i++) {
        if (recv(fd, &line[i], 1, 0) != 1) return -1;
        if (line[i] == '\n') return line[i] = 0;
    }
    return -1;
}

/* Says a line. A client that is gone is found when reading. */
static inline void say(int fd, const char *text) {
    size_t bytes = strlen(text);
    /* In two calls, so that there is no buffer that could be too small. */
    if (send(fd, text, bytes, MSG_NOSIGNAL | MSG_MORE) == (ssize_t)bytes) (void)!send(fd, "\n", 1, MSG_NOSIGNAL);
}

#endif
