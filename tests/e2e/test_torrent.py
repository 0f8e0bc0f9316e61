# SPDX-License-Identifier: MIT
"""Real clients: what transfers without btblock, transfers and is seen in monitor mode, and moves no byte when blocked."""
import shutil
import time
import unittest

from btblock import Btblock
from network import Lab
from swarm import Swarm, missing_libtorrent

SETTLE = 5  # seconds a client is watched after the first detection
DETECTION = 25  # seconds within which a client is detected


class Torrent(unittest.TestCase):
    def setUp(self):
        reason = missing_libtorrent()
        if reason:
            self.skipTest(reason)

    def check(self, interfaces="lan0,wan0", patience=90, lab=None, **swarm):
        """patience: seconds within which the client completes when nobody blocks it; uTP is slow on a busy machine."""
        with Lab(**(lab or {})) as network:
            swarm = Swarm(network, **swarm)
            self.transfers(swarm, patience, "without btblock")
            with Btblock(network, interfaces, monitor=True) as btblock:
                self.transfers(swarm, patience, "in monitor mode")
                self.assertTrue(btblock.wait_detection(5), "monitor mode detects nothing")
                status = btblock.status()
                self.assertEqual(status["packets"]["dropped"], 0, status)
            with Btblock(network, interfaces) as btblock:
                self.moves_nothing(swarm, btblock, patience)

    def transfers(self, swarm, patience, when):
        leecher = swarm.leech()
        done = leecher.wait_done(patience)
        status = leecher.status()
        leecher.stop()
        self.assertTrue(done, f"{when}: {status}")
        if swarm.tracker:
            self.assertGreater(swarm.announces(), 0, f"{when}: no announce")

    def moves_nothing(self, swarm, btblock, patience):
        announced = swarm.announces() if swarm.tracker else 0
        leecher = swarm.leech()
        seen = btblock.wait_detection(DETECTION)
        time.sleep(SETTLE)
        self.assertTrue(leecher.process.running(), leecher.process.output()[-1000:])
        status = leecher.status()
        self.assertEqual(status["payload"], 0, f"{status}, detected {seen}")
        self.assertTrue(seen, "nothing detected")
        if swarm.tracker:
            self.assertEqual(swarm.announces() - announced, 0, f"an announce reached the tracker; detected {seen}")
        leecher.stop()

    def test_tcp(self):
        self.check(transport="tcp")

    def test_tcp_v6(self):
        self.check(transport="tcp", family=6)

    def test_utp(self):
        self.check(transport="utp")

    def test_utp_v6(self):
        self.check(transport="utp", family=6)

    def test_tracker_http(self):
        self.check(find="http")

    def test_tracker_http_v6(self):
        self.check(find="http", family=6)

    def test_tracker_udp(self):
        self.check(find="udp")

    def test_tracker_udp_v6(self):
        self.check(find="udp", family=6)

    def test_dht(self):
        self.check(find="dht")

    def test_dht_v6(self):
        self.check(find="dht", family=6)

    def test_inbound(self):
        """The outside peer opens the connection."""
        self.check(find="inbound", transport="tcp")

    def test_nat_inner_interface_only(self):
        self.check("lan0", transport="tcp", lab={"nat": True})

    def test_nat_outer_interface_only(self):
        self.check("wan0", transport="tcp", lab={"nat": True})

    def test_no_default_route(self):
        """A gateway between two networks, neither of which is "the internet"."""
        self.check("lan0", transport="both", lab={"default_route": False})

    def test_segmentation_offload(self):
        """Packets of many segments, as a real card hands them up."""
        self.check(transport="tcp", lab={"offloads": True})

    def test_tunnel_tcp(self):
        """A client behind a device without Ethernet headers."""
        self.check("lan0", transport="tcp", lab={"tun": True})

    def test_tunnel_utp(self):
        self.check("lan0", transport="utp", lab={"tun": True})

    @unittest.skipUnless(shutil.which("transmission-daemon"), "no transmission-daemon (apt: transmission-daemon)")
    def test_transmission(self):
        self.check(find="http", transmission=True)
