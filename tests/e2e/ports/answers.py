# Accepts connections on a port of every address, which others like it share, and sends back what comes.
import resource, select, socket, sys

most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
listener = socket.create_server(
    ("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True, reuse_port=True, backlog=4096
)
listener.setblocking(False)
poll = select.epoll()
poll.register(listener, select.EPOLLIN)
connections = {}
while True:
    for descriptor, _ in poll.poll():
        if descriptor == listener.fileno():
            try:
                while True:
                    connection, _ = listener.accept()
                    connections[connection.fileno()] = connection
                    poll.register(connection, select.EPOLLIN)
            except BlockingIOError:
                continue
        else:
            try:
                said = connections[descriptor].recv(64)
            except OSError:
                said = b""
            if said:
                connections[descriptor].sendall(said)
            else:
                poll.unregister(descriptor)
                connections.pop(descriptor).close()
