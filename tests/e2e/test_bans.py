# SPDX-License-Identifier: MIT
"""Bans: at once, in both directions, on either interface, until they end, with and without the daemon."""
import json
import os
import signal
import socket
import struct
import time
import unittest

from btblock import Btblock
from network import Lab, LAN4, OTHER, SEEDER, WEB, client, host, wait_until
from probe import Probe, blocks_dht, passes
from swarm import Swarm, missing_libtorrent


HANDSHAKE = b"\x13BitTorrent protocol" + bytes(8) + os.urandom(40)
PEX = b"d5:added6:abcdef7:added.f1:\0e"


def checksum(data):
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def forge(lab, source, destination, payload, protocol=socket.IPPROTO_TCP, ports=(7777, 8080)):
    """One packet of the internet with somebody else's address as its source."""
    source, destination = socket.inet_aton(source), socket.inet_aton(destination)
    if protocol == socket.IPPROTO_TCP:
        header = struct.pack("!HHIIBBHHH", *ports, 1000, 2000, 0x50, 0x18, 65535, 0, 0)
        at = 16
    else:
        header = struct.pack("!HHHH", *ports, 8 + len(payload), 0)
        at = 6
    pseudo = source + destination + struct.pack("!BBH", 0, protocol, len(header) + len(payload))
    header = header[:at] + struct.pack("!H", checksum(pseudo + header + payload)) + header[at + 2:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(header) + len(payload), 1, 0, 64, protocol, 0, source, destination)
    with lab.inside(lab.internet):
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with sock:
        sock.sendto(ip + header + payload, (socket.inet_ntoa(destination), 0))


class Bans(unittest.TestCase):
    def check_add_and_delete(self, family=4, interfaces="lan0,wan0", settings=()):
        banned = host(OTHER, family)
        with Lab() as lab, Btblock(lab, interfaces, settings=settings) as btblock, \
                Probe(lab, OTHER, family) as probe, Probe(lab, WEB, family) as other:
            self.assertTrue(probe.both_ways())
            self.assertTrue(lab.ping(lab.client, banned))
            btblock.ban(banned, "--for", "1h", "--comment", "from the test")
            self.assertFalse(probe.outwards(), "a datagram to the banned address arrives")
            self.assertFalse(probe.inwards(), "a datagram from the banned address arrives")
            self.assertFalse(lab.ping(lab.client, banned))
            self.assertTrue(other.both_ways(), "another address suffers")
            self.assertGreaterEqual(btblock.status()["bans"]["entries"], 1)
            self.assertGreater(btblock.status()["drops"]["ban"], 0)
            listed = btblock.cli("bans list", "-o", "json").stdout
            self.assertIn("from the test", listed)
            json.loads(listed)
            btblock.cli("bans del", banned)
            self.assertTrue(probe.both_ways(), "still banned after bans del")

    def test_ipv4(self):
        self.check_add_and_delete()

    def test_forged_senders(self):
        """What comes from outside and answers nobody: dropped, and nobody is condemned, learned, banned or accused."""
        dht = b"d1:ad2:id20:" + os.urandom(20) + b"e1:q4:ping1:t2:aa1:y1:qe"
        victim = "203.0.113.77"  # an address of nobody
        for interfaces in ("lan0,wan0", "lan0", "wan0"):
            with self.subTest(interfaces), Lab() as lab, Btblock(lab, interfaces) as btblock:
                here = client(4)
                extended = struct.pack("!IBB", len(PEX) + 2, 20, 1) + PEX
                for payload in (HANDSHAKE, extended, HANDSHAKE + extended, HANDSHAKE[:10]):
                    forge(lab, victim, here, payload)
                for payload in (dht, struct.pack("!QII", 0x41727101980, 0, 7), dht[:-1] + b"5:extra1:xe"):
                    forge(lab, victim, here, payload, socket.IPPROTO_UDP)
                wait_until(lambda: btblock.status()["packets"]["dropped"] >= 4, 5)
                time.sleep(0.5)
                status = btblock.status()
                self.assertGreaterEqual(status["packets"]["dropped"], 4, status["drops"])
                self.assertEqual(status["bans"]["entries"], 0, btblock.cli("bans list").stdout)
                self.assertEqual(status["sockets"]["entries"], 0)
                self.assertEqual(status["clients"]["active"], 0)
                self.assertEqual(status["peers"]["learned"], 0)

    def test_ipv6(self):
        """The /64 is banned with it, so the other probe of that network is left out."""
        banned = host(OTHER, 6)
        with Lab() as lab, Btblock(lab) as btblock, Probe(lab, OTHER, 6) as probe, Probe(lab, OTHER, 4) as other:
            self.assertTrue(probe.both_ways())
            btblock.ban(banned, "--for", "1h")
            self.assertFalse(probe.outwards())
            self.assertFalse(probe.inwards())
            self.assertTrue(other.both_ways())
            btblock.cli("bans del", banned)
            self.assertTrue(probe.both_ways())

    def test_inner_interface_only(self):
        self.check_add_and_delete(interfaces="lan0")

    def test_outer_interface_only(self):
        self.check_add_and_delete(interfaces="wan0")

    def test_without_xdp(self):
        self.check_add_and_delete(settings=["xdp=off"])

    def test_flush(self):
        with Lab() as lab, Btblock(lab) as btblock, Probe(lab, OTHER) as one, Probe(lab, WEB) as two:
            btblock.ban(host(OTHER))
            btblock.ban(host(WEB))
            self.assertFalse(one.outwards() or two.outwards())
            btblock.cli("bans flush")
            self.assertTrue(one.both_ways() and two.both_ways())
            self.assertEqual(btblock.status()["bans"]["entries"], 0)

    def test_expires_without_the_daemon(self):
        with Lab() as lab, Btblock(lab) as btblock, Probe(lab, OTHER) as probe:
            btblock.ban(host(OTHER), "--for", "4s")
            end = time.monotonic() + 4
            btblock.stop(signal.SIGKILL)
            self.assertFalse(probe.outwards())
            self.assertLess(time.monotonic(), end, "too slow to tell")
            time.sleep(max(0.0, end - time.monotonic()) + 0.3)
            self.assertTrue(probe.both_ways(), "the ban outlives its time")

    def test_add_without_the_daemon(self):
        with Lab() as lab, Btblock(lab) as btblock, Probe(lab, OTHER) as probe:
            btblock.stop(signal.SIGKILL)
            btblock.ban(host(OTHER), "--for", "1h")
            self.assertFalse(probe.outwards())

    def test_bad_input(self):
        with Lab() as lab, Btblock(lab) as btblock:
            for arguments, code in ((["300.1.2.3"], 2), (["nonsense"], 2), ([host(OTHER), "--for", "soon"], 2)):
                done = btblock.cli("bans add", *arguments, check=False)
                self.assertIn(done.returncode, (1, code), arguments)
                self.assertIn(arguments[-1], done.stderr)
            self.assertEqual(btblock.status()["bans"]["entries"], 0)

    def test_own_address_is_refused(self):
        with Lab() as lab, Btblock(lab) as btblock:
            done = btblock.cli("bans add", LAN4, check=False)
            self.assertEqual(done.returncode, 5, done.stdout + done.stderr)
            self.assertTrue(lab.ping(lab.client, LAN4))

    def test_detection_bans_the_peer(self):
        """A proven peer connection bans the remote address, and the ban covers every port of it."""
        if missing_libtorrent():
            self.skipTest(missing_libtorrent())
        with Lab() as lab, Btblock(lab) as btblock, Probe(lab, SEEDER) as probe:
            self.assertTrue(probe.both_ways())
            Swarm(lab, transport="tcp").leech()
            self.assertTrue(wait_until(lambda: host(SEEDER) in btblock.bans(), 10), btblock.detections())
            self.assertFalse(probe.outwards())
            self.assertTrue(passes(lab))

    def test_allowlist(self):
        if missing_libtorrent():
            self.skipTest(missing_libtorrent())
        with Lab() as lab, Btblock(lab) as btblock:
            btblock.cli("allow add", f"{host(SEEDER)}/32", "--comment", "our mirror")
            self.assertIn("our mirror", btblock.cli("allow list").stdout)
            swarm = Swarm(lab, transport="tcp")
            leecher = swarm.leech()
            self.assertTrue(leecher.wait_done(20), leecher.status())
            self.assertEqual(btblock.detections(), {})
            leecher.stop()
            self.assertTrue(blocks_dht(lab), "the rest of the world is allowed as well")
            btblock.cli("allow del", f"{host(SEEDER)}/32")
            leecher = swarm.leech()
            self.assertTrue(btblock.wait_detection(10))
            time.sleep(3)
            self.assertEqual(leecher.payload(), 0)
