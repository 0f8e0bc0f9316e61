# SPDX-License-Identifier: MIT
"""WebTorrent's trackers: an announce over a WebSocket does not arrive, other messages do."""
import json
import os
import socket
import struct
import unittest
import zlib

from btblock import Btblock
from network import Lab, WEB, host
from swarm import serve

PORT = 8000
HASH = bytes(range(150, 170)).decode("latin-1")
ANNOUNCE = json.dumps({"numwant": 5, "uploaded": 0, "downloaded": 0, "left": 4096, "event": "started", "action": "announce",
                       "info_hash": HASH, "peer_id": "-WW0102-abcdefghijkl",
                       "offers": [{"offer": {"type": "offer", "sdp": "v=0\r\n" * 400}, "offer_id": HASH}] * 5})
CHAT = json.dumps({"type": "message", "text": "which info_hash does it announce? " * 20})


def frame(text, compressed):
    """RFC 6455, 5.2: one masked text frame; RFC 7692, 7.2.1."""
    mask, data, first = os.urandom(4), text.encode(), 0x81
    if compressed:
        deflate = zlib.compressobj(wbits=-15)
        first, data = 0xC1, (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    header = struct.pack("!BBH", first, 0xFE, len(data)) if len(data) > 125 else bytes([first, 0x80 | len(data)])
    return header + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data))


class WebSocket(unittest.TestCase):
    def connect(self, lab, address):
        with lab.inside(lab.client):
            sock = socket.create_connection((address, PORT), 3)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: tracker.example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.assertTrue(sock.recv(1000).startswith(b"HTTP/1.1 101"))
        return sock

    def answered(self, sock, text, compressed=False):
        sock.sendall(frame(text, compressed))
        try:
            return sock.recv(100) == b"\x81\x02ok"
        except TimeoutError:
            return False

    def check(self, interfaces, **lab):
        for family in (4, 6):
            address = host(WEB, family)
            with self.subTest(family=family), Lab(**lab) as network:
                serve(network, "websocket", address, str(PORT))
                with self.connect(network, address) as sock, self.connect(network, address) as early:
                    self.assertTrue(self.answered(sock, ANNOUNCE), "without btblock")
                    with Btblock(network, interfaces) as btblock:
                        with self.connect(network, address) as chat:
                            for _ in range(20):
                                self.assertTrue(self.answered(chat, CHAT))
                            self.assertEqual(btblock.detections(), {})
                        self.assertFalse(self.answered(early, ANNOUNCE), "a connection that was open before")
                        with self.connect(network, address) as announcing:
                            self.assertFalse(self.answered(announcing, ANNOUNCE))
                        with self.connect(network, address) as announcing:
                            self.assertTrue(self.answered(announcing, CHAT, compressed=True))
                            self.assertFalse(self.answered(announcing, ANNOUNCE, compressed=True))
                        status = btblock.status()
                        self.assertEqual(set(btblock.detections(status)), {"tracker.http"})
                        self.assertEqual(status["announce_leaked"], 0)
                        self.assertEqual(btblock.json("bans list")["bans"], [])

    def test_announce_inner_interface_only(self):
        self.check("lan0")

    def test_announce_outer_interface_only(self):
        self.check("wan0", nat=True)
