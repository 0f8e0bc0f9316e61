# SPDX-License-Identifier: MIT
"""The two ends of the conversations of test.nix.

echo.py serve                          answers on every TCP and UDP port from 6000 to 6020
echo.py WHAT ADDRESS PORT tcp|udp      says it, and fails unless the same comes back
"""
import selectors
import socket
import sys

SAID = {
    "handshake": b"\x13BitTorrent protocol" + bytes(5) + b"\x10\x00\x05" + b"0123456789" * 2 + b"-XX0001-123456789012",
    "dht": b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
    "announce": b"GET /announce?info_hash=" + b"".join(b"%%%02x" % i for i in range(1, 21)) +
                b"&peer_id=-XX0001-123456789012&port=6881&uploaded=0&downloaded=0&left=1 HTTP/1.1\r\nHost: t\r\n\r\n",
    "page": b"GET /x?a=1 HTTP/1.1\r\nHost: t\r\n\r\n",
}


def serve():
    ready = selectors.DefaultSelector()
    for port in range(6000, 6021):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            listener = socket.socket(socket.AF_INET, kind)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("0.0.0.0", port))
            if kind == socket.SOCK_STREAM:
                listener.listen()
            ready.register(listener, selectors.EVENT_READ, kind == socket.SOCK_STREAM)
    while True:
        for key, _ in ready.select():
            if key.data:
                connection, _ = key.fileobj.accept()
                ready.register(connection, selectors.EVENT_READ, None)
            elif key.data is None:
                try:
                    data = key.fileobj.recv(4096)
                except OSError:
                    data = b""
                if data:
                    key.fileobj.sendall(data)
                else:
                    ready.unregister(key.fileobj)
                    key.fileobj.close()
            else:
                data, sender = key.fileobj.recvfrom(4096)
                key.fileobj.sendto(data, sender)


def say(what, address, port, proto):
    said = SAID[what]
    kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as connection:
        connection.settimeout(5)
        connection.connect((address, int(port)))
        connection.send(said)
        came = b""
        while len(came) < len(said):
            more = connection.recv(4096)
            if not more:
                sys.exit("closed")
            came += more
        if came != said:
            sys.exit("something else came back")


if sys.argv[1] == "serve":
    serve()
else:
    try:
        say(*sys.argv[1:])
    except OSError as error:
        sys.exit(str(error))
