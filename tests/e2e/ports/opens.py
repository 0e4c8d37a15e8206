# Opens connections from an address to a server, each from whatever port the host gives, has each answered, and keeps all of them.
# Writes their ports into a file, a line each, and waits to be ended.
import errno, os, resource, signal, socket, sys, time

source, server, port, count, ports = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
kept = []
for number in range(count):
    end = time.monotonic() + 60
    while True:
        connection = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.bind((source, 0))
            break
        except OSError as e:
            # All that were granted are in use; more are on their way.
            connection.close()
            if e.errno != errno.EADDRINUSE or time.monotonic() > end:
                raise
            time.sleep(0.01)
    connection.settimeout(60)
    connection.connect((server, port))
    connection.sendall(b"x")
    assert connection.recv(1) == b"x", "the answer is not what was sent"
    kept.append(connection)
with open(ports + ".part", "w") as file:
    file.writelines(f"{connection.getsockname()[1]}\n" for connection in kept)
os.rename(ports + ".part", ports)
signal.pause()
