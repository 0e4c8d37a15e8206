"""Requests over one TLS connection again and again, with pauses, until standard input ends. Prints a line an answer."""
import random
import select
import socket
import ssl
import sys

address, rng = sys.argv[1], random.Random(int(sys.argv[2]))
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
stop = False
while not stop:
    with context.wrap_socket(socket.create_connection((address, 443), 10)) as connection:
        answers = connection.makefile("rb")
        for _ in range(rng.randint(3, 30)):
            path = rng.choice(["/", "/", "/big"])
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n".encode())
            length = None
            while (line := answers.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if length is None or len(answers.read(length)) != length:
                sys.exit("an answer was cut off")
            print("answered", flush=True)
            stop = bool(select.select([sys.stdin], [], [], rng.random())[0])
            if stop:
                break
