"""Answers each UDP datagram to a DVIPA with the traffic class (or TOS) that it arrived with. Arguments: address, port."""
import socket
import sys

address, port = sys.argv[1], int(sys.argv[2])
v6 = ":" in address
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
if v6:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
else:
    s.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
s.bind((address, port))
while True:
    data, control, _, client = s.recvmsg(2048, 64)
    tos = control[0][2][0]
    s.sendto(b"%s tos %d" % (data, tos), client)
