# SPDX-License-Identifier: MIT
"""Host names in TLS and DNS: a host of names.block is not reached, others are; a tracker's name weighs."""
import socket
import struct
import subprocess
import unittest

from btblock import Btblock
from network import Lab, WEB, bracket, client, host
from swarm import serve

LISTED, BELOW, OTHER = "video.example.org", "a.b.video.example.org", "example.org"
NAMES = f'names.block=["{LISTED}"]'


class Names(unittest.TestCase):
    def certificate(self, lab):
        key, certificate = lab.file("key.pem"), lab.file("cert.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
                        "-days", "2", "-subj", "/CN=lab"], check=True, stderr=subprocess.DEVNULL)
        return certificate, key

    def fetch(self, lab, name, address, port=443):
        """curl's exit code: 0, or 28 when nothing comes back in time, or 35 when the handshake is reset."""
        return lab.run(lab.client, ["curl", "-sSk", "--noproxy", "*", "--max-time", "4", "--resolve",
                                    f"{name}:{port}:{bracket(address)}", "-o", "/dev/null", f"https://{name}:{port}/"],
                       check=False).returncode

    def asks(self, lab, name, address):
        """Whether the resolver answers."""
        question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
        with lab.inside(lab.client):
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.settimeout(1)
            sock.sendto(struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + question + b"\0\1\0\1", (address, 53))
            try:
                return sock.recv(512)[:2] == b"\0\7"
            except TimeoutError:
                return False

    def check(self, interfaces, **lab):
        for family in (4, 6):
            address = host(WEB, family)
            with self.subTest(family=family), Lab(**lab) as network:
                certificate = self.certificate(network)
                for port in ("443", "444"):
                    serve(network, "https", address, port, network.dir, *certificate)
                serve(network, "dns", address, "53")
                with Btblock(network, interfaces, settings=[NAMES]) as btblock:
                    self.assertIn(self.fetch(network, OTHER, address), (0, 22))
                    self.assertTrue(self.asks(network, OTHER, address))
                    self.assertEqual(btblock.detections(), {})
                    for name in (LISTED, BELOW):
                        self.assertEqual(self.fetch(network, name, address), 28)
                        self.assertFalse(self.asks(network, name, address))
                    self.assertEqual(set(btblock.detections()), {"tracker.sni"})
                    # The first server does one handshake at a time, and waits for a hello.
                    self.assertIn(self.fetch(network, OTHER, address, 444), (0, 22))
                    self.assertTrue(self.asks(network, OTHER, address))
                    self.assertNotIn(address, btblock.bans())
                    self.assertEqual(btblock.json("clients")["clients"], [])

    def test_block(self):
        self.check("lan0,wan0")

    def test_block_outer_interface_only(self):
        self.check("wan0")

    def test_score(self):
        """A client's user agent, then a tracker's name: together they make an inside host active, and nothing else."""
        tracker = "tracker.opentrackr.org"
        with Lab() as network:
            address = host(WEB)
            serve(network, "https", address, "443", network.dir, *self.certificate(network))
            serve(network, "http", address, "80", network.dir)
            with Btblock(network, settings=["names.watch=true"]) as btblock:
                network.run(network.client, ["curl", "-sS", "--noproxy", "*", "-A", "qBittorrent/4.5.2", "-o", "/dev/null",
                                             f"http://{address}/geoip"])
                self.assertEqual(btblock.json("clients")["clients"], [])
                self.assertIn(self.fetch(network, tracker, address), (0, 22))
                found = btblock.json("explain", client())["client"]
                self.assertTrue(found["active"])
                self.assertEqual(found["evidence"], ["tracker.sni", "client.agent"])
                self.assertTrue(btblock.process.wait_for("tracker.sni+client.agent", 5), btblock.process.output())
                self.assertEqual(btblock.status()["packets"]["dropped"], 0)
                self.assertIn(self.fetch(network, tracker, address), (0, 22))

    def test_off_by_default(self):
        with Lab() as network:
            address = host(WEB)
            serve(network, "https", address, "443", network.dir, *self.certificate(network))
            with Btblock(network) as btblock:
                self.assertIn(self.fetch(network, "tracker.opentrackr.org", address), (0, 22))
                self.assertEqual(btblock.status()["packets"]["punted"], 0)
