#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A BitTorrent tracker for tests: HTTP and UDP on the same port, IPv4 and IPv6.

  tracker.py PORT ADDRESS [ADDRESS...]

Prints one JSON object per announce that arrives: over (http, udp), from (address), port.
"""
import json
import os
import signal
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote_to_bytes

UDP_MAGIC = 0x41727101980
CONNECTION_ID = 0x7468697369736964
CONNECT, ANNOUNCE, SCRAPE, ERROR = range(4)
INTERVAL = 5
swarms = {}  # info-hash -> {(address, port): bytes left}
lock = threading.Lock()


def announce(info_hash, address, port, left, stopped, over):
    """Records a peer; returns the others of its address family, packed, and (seeds, leechers)."""
    print(json.dumps({"over": over, "from": address, "port": port}), flush=True)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with lock:
        swarm = swarms.setdefault(info_hash, {})
        if stopped:
            swarm.pop((address, port), None)
        else:
            swarm[address, port] = left
        others = [p for p in swarm if p != (address, port) and (":" in p[0]) == (":" in address)]
        seeds = sum(1 for amount in swarm.values() if amount == 0)
        packed = b"".join(socket.inet_pton(family, a) + struct.pack("!H", p) for a, p in others[:50])
        return packed, seeds, len(swarm) - seeds


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        fields = {k: unquote_to_bytes(v) for k, _, v in (part.partition("=") for part in query.split("&"))}
        if not path.endswith("/announce") or len(fields.get("info_hash", b"")) != 20:
            self.send_error(404)
            return
        address = self.client_address[0]
        peers, seeds, leechers = announce(fields["info_hash"], address, int(fields.get("port", b"0")),
                                          int(fields.get("left", b"0")), fields.get("event") == b"stopped", "http")
        key = b"6:peers6" if ":" in address else b"5:peers"
        body = b"d8:completei%de10:incompletei%de8:intervali%de12:min intervali2e%s%d:%se" % (
            seeds, leechers, INTERVAL, key, len(peers), peers)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve_udp(address, port):
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    while True:
        data, sender = sock.recvfrom(2048)
        if len(data) < 16:
            continue
        connection, action, transaction = struct.unpack_from("!QII", data)
        if action == CONNECT and connection == UDP_MAGIC:
            answer = struct.pack("!IIQ", CONNECT, transaction, CONNECTION_ID)
        elif connection != CONNECTION_ID:
            answer = struct.pack("!II", ERROR, transaction) + b"bad connection id"
        elif action == ANNOUNCE and len(data) >= 98:
            info_hash, left, event = data[16:36], *struct.unpack_from("!Q", data, 64), *struct.unpack_from("!I", data, 80)
            their_port, = struct.unpack_from("!H", data, 96)
            peers, seeds, leechers = announce(info_hash, sender[0], their_port, left, event == 3, "udp")
            answer = struct.pack("!IIIII", ANNOUNCE, transaction, INTERVAL, leechers, seeds) + peers
        elif action == SCRAPE:
            answer = struct.pack("!II", SCRAPE, transaction) + bytes(12 * ((len(data) - 16) // 20))
        else:
            continue
        sock.sendto(answer, sender)


def main():
    port, addresses = int(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for address in addresses:
        ThreadingHTTPServer.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = ThreadingHTTPServer((address, port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        threading.Thread(target=serve_udp, args=(address, port), daemon=True).start()
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
